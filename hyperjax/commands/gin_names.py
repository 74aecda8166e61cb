"""Names of gin's that do not exist, and the nearest that do."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable
from typing import Any

_PARAMETER = r"Configurable '([^']+)' doesn't have a parameter named '(\w+)'"
_NO_CONFIGURABLE = r"No configurable matching (?:reference )?'@?([^'()]+)"
_NO_ATTRIBUTE = r"module '([\w.]+)' has no attribute '(\w+)'"


def nearest(gin: Any, error: Exception) -> str:
  """What may be meant by a name that gin does not know, in words, or ""."""
  said = str(error)
  if found := re.search(_PARAMETER, said):
    made = inspect.unwrap(gin.get_configurable(found[1]))
    # gin makes a class of one that it configures, with a constructor of its own.
    every = made.__mro__[:-1] if isinstance(made, type) else [made]
    own = [x for each in every for x in inspect.signature(each).parameters]
    return _meant(found[2], own)
  if found := re.search(_NO_CONFIGURABLE, said):
    return _meant(found[1], _configurables(gin, found[1]))
  if found := re.search(_NO_ATTRIBUTE, said):
    return _meant(found[2], _public(found[1]))
  return ""


def _configurables(gin: Any, name: str) -> set[str]:
  """Names as `name` is written: module and class, say, of hyperjax.loop.Periods."""
  parts = name.rpartition("/")[2].split(".")
  known = gin.config._REGISTRY.items()  # noqa: SLF001 - told nowhere else
  found = {".".join(own.split(".")[-len(parts) :]) for own, _ in known}
  # What no file has named yet is in a module that one imports.
  if len(parts) == 2:
    modules = [x for x in sys.modules if x.startswith("hyperjax.")]
    for module in modules:
      if module.endswith(f".{parts[0]}"):
        found |= {f"{parts[0]}.{own}" for own in _public(module)}
  return found


def _public(module: str) -> list[str]:
  found = vars(sys.modules[module]) if module in sys.modules else {}
  return [name for name in found if name[0] != "_"]


def _meant(name: str, known: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, sorted(known), 1, 0.6)
  return f" Did you mean {near[0]}?" if near else ""
