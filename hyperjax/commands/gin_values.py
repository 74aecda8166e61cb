"""What a command line binds in gin: files, then bindings, then --gin.NAME=VALUE."""

import contextlib
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hyperjax.commands import gin_names, gin_package


class UsageError(Exception):
  """A mistake of the user's: its message is all that is shown."""


def parse_gin(
  gin: Any,
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  overrides: Sequence[str],
  folders: Sequence[str] = (),
) -> None:
  """Files, which lie in `folders` too, then bindings, then --gin.NAME=VALUE: later wins."""
  for file in gin_files:
    with _blaming(gin, f"--gin_file={file}"):
      try:
        gin.parse_config_file(file)
      except OSError as error:
        message = gin_package.not_found(file, error, folders)
        raise UsageError(message) from error
  declared = macros(gin)
  for binding in gin_bindings:
    with _blaming(gin, f"--gin_bindings={binding}"):
      gin.parse_config(binding)
    _check_macros(gin, declared, binding, gin_files)
  for argument in overrides:
    name, equals, value = argument.removeprefix("--gin.").partition("=")
    if not equals:
      raise UsageError(f"{argument} needs a value: --gin.{name}=VALUE")
    _bind(gin, name, value)
    _check_macros(gin, declared, argument, gin_files)


def check_set(
  gin: Any, gin_files: Sequence[str], free: Mapping[str, Any]
) -> None:
  """Refuses what is still REQUIRED; macros of `free` get the value there."""
  for name, value in free.items():
    if macros(gin).get(name, gin.REQUIRED) is gin.REQUIRED:
      gin.parse_config(f"{name} = {value!r}")
  found = macros(gin)
  gin_package.check_macros(found)
  unset = sorted(name for name, value in found.items() if value is gin.REQUIRED)
  if unset:
    raise UsageError(
      "these must be set: " + ", ".join(f"--gin.{name}=..." for name in unset)
    )
  for reference in gin.config.iterate_references(
    gin.config._CONFIG,  # noqa: SLF001
    to=gin.get_configurable("gin.macro"),
  ):
    name = reference.scoped_selector.removesuffix("/gin.macro")
    if name not in found:
      raise UsageError(
        f"no gin file says what {name} is{gin_package.declaring(name, gin_files)}"
      )


@contextlib.contextmanager
def _blaming(gin: Any, where: str) -> Iterator[None]:
  """Turns what gin raises on bad text into one message that names the place."""
  try:
    yield
  except tokenize.TokenError as error:
    raise UsageError(f"{where}: a bracket or a quote is not closed") from error
  except SyntaxError as error:
    line = (error.text or "").strip()
    raise UsageError(
      f"{where}: {error.msg} Line {error.lineno} of "
      f"{error.filename or 'it'}: {line}"
    ) from error
  except (ImportError, AttributeError, NameError, ValueError) as error:
    hint = gin_names.nearest(gin, error)
    raise UsageError(f"{where}: {gin_package.said(error)}{hint}") from error


def _bind(gin: Any, name: str, value: str) -> None:
  """Binds a value in gin syntax; what is none is taken as a string."""
  where = f"--gin.{name}={value}"
  try:
    gin.parse_config(f"{name} = {value}")
    return
  except (SyntaxError, tokenize.TokenError):
    pass
  except ValueError as error:
    if "." in name:
      hint = gin_names.nearest(gin, error)
      raise UsageError(f"{where}: {gin_package.said(error)}{hint}") from error
  # A word that is not Python's is no string where a number or a truth value is
  # expected: 'false' would be true.
  declared = macros(gin).get(name)
  if isinstance(declared, (bool, int, float)) or value in ("true", "false"):
    raise UsageError(
      f"{where}: {value} is neither True, False, None nor a number"
    )
  gin.parse_config(f"{name} = {value!r}")


def macros(gin: Any) -> dict[str, Any]:
  """Values of the macros bound so far, constants resolved."""
  found = {}
  for (scope, selector), parameters in gin.config._CONFIG.items():  # noqa: SLF001
    if selector == "gin.macro" and scope and "value" in parameters:
      value = parameters["value"]
      if str(value) == "%gin.REQUIRED":
        value = gin.REQUIRED
      found[scope] = value
  return found


def _check_macros(
  gin: Any, declared: Any, where: str, gin_files: Sequence[str]
) -> None:
  """Gin binds any macro; one that no file declares would do nothing."""
  for name in macros(gin).keys() - declared.keys():
    hint = gin_package.declaring(name, gin_files)
    hint = hint or gin_package.undeclared(name, declared)
    raise UsageError(f"{where}: no gin file declares {name}{hint}")
