"""LoRA for llama.cpp: one GGUF file, as its convert_lora_to_gguf writes it.

Names of tensors are those that the `gguf` package gives a T5's. llama.cpp multiplies
by alpha / rank, with one alpha for all: so all have the largest rank, filled up
with zeros, which is alpha, and the scale stays inside `up`.
"""

import importlib
import importlib.metadata
import pathlib
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.interop import hf, merged
from hyperjax.models.t5_layers import T5Config

FILE = "adapter.gguf"
_A, _B = ".lora_a", ".lora_b"


def write(
  folder: pathlib.Path,
  written: adapters.Adapters,
  config: T5Config,
  base_model: str | None,
) -> None:
  """Writes a LoRA of one context into an existing folder, in float32.

  Raises:
    ValueError: as for `merged.by_kernel`.
  """
  gguf = _library()
  every: dict[str, list[Any]] = dict(merged.by_kernel(written))
  changes = {name: own[0] for name, own in every.items()}  # LoRA alone
  names = _names(config)
  rank = max(node.down.shape[-1] for node in changes.values())
  writer = gguf.GGUFWriter(folder / FILE, "t5")
  writer.add_type(gguf.GGUFType.ADAPTER)
  writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
  writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
  if base_model is not None:
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, pathlib.PurePath(base_model).name)
  for name, node in changes.items():
    lacking = (0, rank - node.down.shape[-1])
    down = np.pad(node.down.astype(np.float32), ((0, 0), lacking))
    up = np.pad(node.up.astype(np.float32), (lacking, (0, 0)))
    writer.add_tensor(names[name] + _A, np.ascontiguousarray(down.T))
    writer.add_tensor(names[name] + _B, np.ascontiguousarray(up.T))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def read(folder: pathlib.Path, config: T5Config) -> adapters.Adapters:
  """What `write` wrote, as llama.cpp takes it: by names, alpha and ranks.

  Raises:
    ValueError: it is no LoRA of such a T5.
  """
  gguf = _library()
  reader = gguf.GGUFReader(folder / FILE)
  alpha = float(reader.get_field(gguf.Keys.Adapter.LORA_ALPHA).contents())
  tensors = {x.name: np.array(x.data) for x in reader.tensors}
  ours = {theirs: name for name, theirs in _names(config).items()}
  found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
  for name in tensors:
    if not name.endswith(_A):
      continue
    theirs = name.removesuffix(_A)
    if theirs not in ours or theirs + _B not in tensors:
      raise ValueError(f"{folder / FILE}: {name} is of no pair of this T5")
    stack, layer, *rest, _ = ours[theirs].split("/")
    down, up = tensors[name].T, tensors[theirs + _B].T
    up = up * np.float32(alpha / len(up))
    place = ".".join([stack, *rest])
    number = int(layer.removeprefix("layers_"))
    found.setdefault(place, {})[number] = down, up
  ranks = {
    place: max(len(up) for _, up in layers.values())
    for place, layers in found.items()
  }
  spec = adapters.PlacedLoraSpec(ranks)
  nodes: dict[str, Any] = dict(adapters.nodes(spec.filled(config, 0.0)))
  for place, layers in found.items():
    for number, (down, up) in layers.items():
      nodes[place].down[number, 0, :, : len(up)] = down
      nodes[place].up[number, 0, : len(up)] = up
  return adapters.assemble(nodes)


def version() -> str:
  return f"gguf {importlib.metadata.version('gguf')}"


def _library() -> Any:
  return importlib.import_module("gguf")


def _names(config: T5Config) -> dict[str, str]:
  """llama.cpp's name of each kernel, by ours."""
  gguf = _library()
  blocks = max(config.num_encoder_layers, config.num_decoder_layers)
  by_theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, blocks)
  return {
    name: by_theirs.get_name(hf_name, try_suffixes=(".weight",))
    for name, hf_name in hf.array_names(config, hf.EMBEDDINGS[0]).items()
    if name.endswith("/kernel")
  }
