"""LoRA as the `peft` library has it, on transformers' T5.

A folder of two files, `adapter_config.json` and `adapter_model.safetensors`.
PEFT multiplies a LoRA by alpha / rank; here the scale is inside `up`, so the
folder says alpha = rank and holds the arrays as they are, transposed.
"""

import json
import pathlib
import re
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.interop import hf, merged_lora
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
  """Writes LoRA of one context into an existing, empty folder.

  Args:
    folder: where.
    written: what.
    config: of the T5 that it is for.
    base_model: where that T5 lies in Hugging Face's format, if it does.

  Raises:
    ValueError: as for `lora.by_kernel`.
  """
  from safetensors import numpy as safetensors  # a cost of files alone

  modules = _by_module(written, config)
  arrays: dict[str, np.ndarray] = {}
  for name, update in modules.items():
    for part, array in (("lora_A", update.down), ("lora_B", update.up)):
      arrays[f"{_WRAPPED}{name}.{part}.weight"] = np.ascontiguousarray(array.T)
  rank = next(iter(modules.values())).down.shape[1]
  facts = _facts(list(modules), rank, base_model)
  safetensors.save_file(arrays, folder / ARRAYS, {"format": "pt"})
  text = json.dumps(dict(sorted(facts.items())), indent=2) + "\n"
  (folder / CONFIG).write_text(text)


def _by_module(
  written: adapters.Adapters, config: T5Config
) -> dict[str, adapters.Lora]:
  """LoRA by the name of the module of transformers' T5 that it is added to."""
  hf_names = hf.array_names(config, hf.EMBEDDINGS[0])
  return {
    hf_names[name].removesuffix(".weight"): update
    for name, update in merged_lora.by_kernel(written).items()
  }


def _facts(
  modules: list[str], rank: int, base_model: str | None
) -> dict[str, Any]:
  """adapter_config.json: what PEFT cannot do without, and what must not vary."""
  return {
    "peft_type": "LORA",
    "task_type": "SEQ_2_SEQ_LM",
    "base_model_name_or_path": base_model,
    "r": rank,
    "lora_alpha": rank,
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "bias": "none",
    "lora_dropout": 0.0,
    "target_modules": _pattern(modules),
    "inference_mode": True,
  }


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
