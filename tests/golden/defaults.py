"""What an option is where nobody names it: the content of `defaults.json`."""

import abc
import dataclasses
import importlib
import inspect
from typing import Any

# Whatever gin files bind; the layers that they describe are built of these.
MODULES = (
  "hyperjax.adapters.composed",
  "hyperjax.adapters.ia3",
  "hyperjax.adapters.lora",
  "hyperjax.adapters.memory",
  "hyperjax.adapters.prefix",
  "hyperjax.data.sources",
  "hyperjax.data.store.mixtures",
  "hyperjax.data.text",
  "hyperjax.evaluation.curves",
  "hyperjax.evaluation.few_shot",
  "hyperjax.evaluation.loss",
  "hyperjax.evaluation.rank",
  "hyperjax.loop",
  "hyperjax.models.decoding",
  "hyperjax.models.hypermodel",
  "hyperjax.models.problems",
  "hyperjax.models.t5_layers",
  "hyperjax.optimizers",
  "hyperjax.runs",
  "hyperjax.sharding",
)


def compute() -> dict[str, dict[str, str]]:
  """As JSON: of each public class its options with their defaults, written out."""
  found = {}
  for module in map(importlib.import_module, MODULES):
    for name, own in inspect.getmembers(module, dataclasses.is_dataclass):
      if own.__module__ != module.__name__ or name.startswith("_"):
        continue
      if getattr(own, "__abstractmethods__", None) and issubclass(own, abc.ABC):
        continue
      if not own.__dataclass_params__.frozen or hasattr(own, "replace"):
        continue  # arrays and results, which nobody binds
      found[f"{module.__name__}.{name}"] = {
        field.name: _default(field) for field in dataclasses.fields(own)
      }
  return found


def _default(field: dataclasses.Field[Any]) -> str:
  if field.default is not dataclasses.MISSING:
    return repr(field.default)
  if field.default_factory is not dataclasses.MISSING:
    return repr(field.default_factory())
  return "required"
