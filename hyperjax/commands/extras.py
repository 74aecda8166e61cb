"""What a command needs that is not installed, by the extra that brings it."""

import importlib.util

_EXTRAS = {
  "gin": "train",
  "seqio": "train",
  "tensorflow": "train",
  "tensorflow_text": "train",
  "tensorflow_datasets": "train",
  "jinja2": "report",
  "matplotlib": "report",
  "anyio": "serve",
  "httptools": "serve",
  "prometheus_client": "serve",
  "starlette": "serve",
  "uvicorn": "serve",
}
# What is imported under another name than it is installed by.
_DISTRIBUTIONS = {"gin": "gin-config"}


def lacking(command: str, error: BaseException) -> str | None:
  """The one line about a package that is not installed; None of other errors."""
  if not isinstance(error, ImportError) or not error.name:
    return None
  name = error.name.partition(".")[0]
  extra = _EXTRAS.get(name)
  if extra is None or _is_installed(name):
    return None
  if command == "plan":
    extra = "plan"
  package = _DISTRIBUTIONS.get(name, name)
  return f"it needs the package {package}: pip install 'hyperjax[{extra}]'"


def _is_installed(name: str) -> bool:
  """Also where a folder of the name, such as our own gin/, looks like it."""
  spec = importlib.util.find_spec(name)
  return spec is not None and spec.origin is not None
