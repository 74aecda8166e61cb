"""Adapters as the `peft` library has them, on transformers' T5.

A folder of two files, `adapter_config.json` and `adapter_model.safetensors`.
What stands in them of each kind, its node says (`adapters.Node.peft`).
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.data import files
from hyperjax.interop import hf, merged
from hyperjax.models.t5_layers import T5Config

CONFIG, ARRAYS = "adapter_config.json", "adapter_model.safetensors"

# What PEFT puts before a module's name in T5ForConditionalGeneration.
WRAPPED = "base_model.model."


def write_folder(
  folder: pathlib.Path,
  written: adapters.Adapters,
  config: T5Config,
  base_model: str | None,
) -> None:
  """Writes adapters of one context into an existing, empty folder.

  Args:
    folder: where.
    written: what.
    config: of the T5 that it is for.
    base_model: where that T5 lies in Hugging Face's format, if it does.

  Raises:
    ValueError: as for `merged.by_kernel`, or they are of several kinds.
  """
  hf_names = hf.array_names(config, hf.EMBEDDINGS[0])
  arrays: dict[str, np.ndarray] = {}
  facts: dict[str, Any] = {
    "task_type": "SEQ_2_SEQ_LM",
    "base_model_name_or_path": base_model,
    "fan_in_fan_out": False,
    "inference_mode": True,
  }
  for name, changes in merged.by_kernel(written).items():
    module = hf_names[name].removesuffix(".weight")
    for node in changes:
      settings, own = node.peft(module)
      _join(facts, settings)
      for part, array in own.items():
        arrays[f"{WRAPPED}{module}.{part}"] = np.ascontiguousarray(array)
  every = [name.removesuffix(".weight") for name in hf_names.values()]
  for key, value in facts.items():
    if isinstance(value, list):
      facts[key] = _pattern(value, every)
  if "rank_pattern" in facts:
    facts |= _ranks(facts["rank_pattern"])
  files.write_arrays(folder / ARRAYS, arrays, {"format": "pt"})
  text = json.dumps(dict(sorted(facts.items())), indent=2) + "\n"
  (folder / CONFIG).write_text(text)


def _join(facts: dict[str, Any], settings: Mapping[str, Any]) -> None:
  """Adds the settings of a node to those of the nodes before it.

  Raises:
    ValueError: they are of different kinds.
  """
  kind = settings["peft_type"]
  if facts.get("peft_type", kind) != kind:
    raise ValueError(
      "PEFT loads adapters of one kind, and these are "
      f"{facts['peft_type']} and {kind}"
    )
  for key, value in settings.items():
    if isinstance(value, list):
      facts[key] = facts.get(key, []) + value
    elif isinstance(value, dict):
      facts[key] = facts.get(key, {}) | value
    else:
      facts[key] = value


def _ranks(by_module: dict[str, int]) -> dict[str, Any]:
  """PEFT's settings of ranks that act as they are; most have `r`.

  Raises:
    ValueError: there is no module at all.
  """
  if not by_module:
    raise ValueError("the LoRA is zero in every layer: there is none to write")
  ranks = list(by_module.values())
  rank = max(sorted(set(ranks)), key=ranks.count)
  others = {re.escape(k): n for k, n in by_module.items() if n != rank}
  return {
    "r": rank,
    "lora_alpha": rank,
    "rank_pattern": others,
    "alpha_pattern": others,
  }


def _pattern(modules: Sequence[str], every: Sequence[str]) -> str:
  """The regular expression of exactly these modules, of `every` there is.

  A list of short names, PEFT's usual form, would take "q" at every site.
  """
  own, all_of = _layers(modules), _layers(every)
  by_site: dict[tuple[str, str], list[str]] = {}
  for kind in sorted(own):
    is_whole = own[kind] == all_of[kind]
    layers = r"\d+" if is_whole else f"({'|'.join(sorted(own[kind], key=int))})"
    site, _, projection = kind.rpartition(".")
    by_site.setdefault((site, layers), []).append(projection)
  alternatives = [
    re.escape(site).replace(r"\.N\.", rf"\.{layers}\.")
    + rf"\.({'|'.join(names)})"
    for (site, layers), names in by_site.items()
  ]
  return "|".join(alternatives)


def _layers(modules: Sequence[str]) -> dict[str, set[str]]:
  """The layers of each kind of module, such as "encoder.block.N.layer.0...q"."""
  found: dict[str, set[str]] = {}
  for name in modules:
    kind = re.sub(r"\.block\.\d+\.", ".block.N.", name)
    if kind != name:
      found.setdefault(kind, set()).add(name.split(".")[2])
  return found
