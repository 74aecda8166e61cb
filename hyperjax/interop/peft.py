"""Adapters as the `peft` library has them, on transformers' T5.

A folder of two files, `adapter_config.json` and `adapter_model.safetensors`.
What stands in them of each kind, its node says (`adapters.Node.peft`).
"""

import json
import pathlib
import re
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.interop import hf, merged
from hyperjax.models.t5_layers import T5Config

CONFIG, ARRAYS = "adapter_config.json", "adapter_model.safetensors"

# What PEFT puts before a module's name in T5ForConditionalGeneration.
_WRAPPED = "base_model.model."


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
    ValueError: as for `merged.by_kernel`.
  """
  from safetensors import numpy as safetensors  # a cost of files alone

  hf_names = hf.array_names(config, hf.EMBEDDINGS[0])
  arrays: dict[str, np.ndarray] = {}
  facts: dict[str, Any] = {
    "task_type": "SEQ_2_SEQ_LM",
    "base_model_name_or_path": base_model,
    "fan_in_fan_out": False,
    "inference_mode": True,
  }
  for name, node in merged.by_kernel(written).items():
    module = hf_names[name].removesuffix(".weight")
    settings, own = node.peft(module)
    for key, value in settings.items():
      is_modules = isinstance(value, list)
      facts[key] = facts.get(key, []) + value if is_modules else value
    for part, array in own.items():
      arrays[f"{_WRAPPED}{module}.{part}"] = np.ascontiguousarray(array)
  for key, value in facts.items():
    if isinstance(value, list):
      facts[key] = _pattern(value)
  safetensors.save_file(arrays, folder / ARRAYS, {"format": "pt"})
  text = json.dumps(dict(sorted(facts.items())), indent=2) + "\n"
  (folder / CONFIG).write_text(text)


def _pattern(modules: list[str]) -> str:
  """The regular expression of exactly these modules, in every layer.

  A list of short names, PEFT's usual form, would take "q" at every site.
  """
  kinds = {re.sub(r"\.block\.\d+\.", ".block.N.", name) for name in modules}
  by_site: dict[str, list[str]] = {}
  for kind in sorted(kinds):
    site, _, projection = kind.rpartition(".")
    by_site.setdefault(site, []).append(projection)
  alternatives = [
    re.escape(site).replace(r"\.N\.", r"\.\d+\.") + rf"\.({'|'.join(names)})"
    for site, names in by_site.items()
  ]
  return "|".join(alternatives)
