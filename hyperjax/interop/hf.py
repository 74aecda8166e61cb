"""T5 folders of Hugging Face: config.json and safetensors, or flax's msgpack.

What config.json says, `hf_config` reads. Whether the output layer is the embedding
is not in it: it is, unless the files hold another `lm_head.weight`.
"""

import dataclasses
import pathlib
import re

import numpy as np

from hyperjax.interop import hf_arrays, hf_config, hf_flax, weights
from hyperjax.models.t5_layers import T5Config

CONFIG = hf_config.CONFIG

_BIAS = "relpos_bias/rel_embedding"
OUTPUT = "lm_head.weight"
# Names of the token embedding; the first one present is the embedding.
EMBEDDINGS = (
  "shared.weight",
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
  OUTPUT,
)
# An encoder's layer, in a T5's file or in one of its own.
_ENCODER = re.compile(r"(encoder\.)?block\.\d+\.")
_FLOAT = re.compile(r"(B?F|b?float)(16|32|64)$|V2$")
# Folders of T5 1.0 hold this array, which no T5 uses; transformers skips it.
_UNUSED = (
  "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
)


def is_folder(path: pathlib.Path) -> bool:
  """Whether `path` looks like a Hugging Face model folder."""
  return (path / CONFIG).is_file()


def open_folder(path: pathlib.Path) -> weights.T5Source:
  """The T5 in a Hugging Face folder; arrays are read when asked for.

  Raises:
    ValueError: not a T5, or one this package cannot represent; a damaged or
      incomplete folder.
  """
  config, said = hf_config.read(path)
  arrays = _arrays(path)
  _check_is_whole_t5(path, arrays)
  embedding, is_tied = _embedding(path, arrays)
  config = dataclasses.replace(config, logits_via_embedding=is_tied)
  names = {
    name: hf_name
    for name, hf_name in array_names(config, embedding).items()
    if hf_name in arrays
  }
  # An unknown array stays visible under its own name: loading lists it.
  known = {*names.values(), *EMBEDDINGS, _UNUSED}
  names |= {name: name for name in arrays.names if name not in known}

  def read(name: str) -> np.ndarray:
    array = arrays.read(names[name])
    return array.T if is_transposed(name) else array

  def shape(name: str) -> tuple[int, ...]:
    found = arrays.shape(names[name])
    return found[::-1] if is_transposed(name) else found

  shapes = {name: shape(name) for name in names}
  return weights.T5Source(str(path), config, shapes, read, said=said)


def _arrays(path: pathlib.Path) -> hf_arrays.Arrays | hf_flax.Arrays:
  """Those of safetensors, before those of flax."""
  if not hf_flax.is_here(path) or hf_arrays.is_here(path):
    return hf_arrays.open_arrays(path)
  return hf_flax.open_arrays(path)


def _check_is_whole_t5(
  path: pathlib.Path, arrays: hf_arrays.Arrays | hf_flax.Arrays
) -> None:
  """Refuses what is half of a T5, or no numbers to compute with."""
  has_decoder = any(name.startswith("decoder.block.") for name in arrays.names)
  if not has_decoder and any(_ENCODER.match(name) for name in arrays.names):
    raise ValueError(
      f"{path} holds a T5's encoder alone, without a decoder to answer with: "
      "take the whole model (T5ForConditionalGeneration) that it is of"
    )
  kinds = {name: arrays.dtype(name) for name in arrays.names}
  wrong = sorted(name for name, kind in kinds.items() if not _FLOAT.match(kind))
  if wrong:
    raise ValueError(
      f"{path}: {wrong[0]} is of type {kinds[wrong[0]]} ({len(wrong)} such arrays): "
      "weights that were quantized are not read; dequantize them with "
      "transformers (model.dequantize()) and save the model again"
    )


def _embedding(
  path: pathlib.Path, arrays: hf_arrays.Arrays | hf_flax.Arrays
) -> tuple[str, bool]:
  """Which array embeds tokens, and whether it is the output layer too.

  As in transformers, an equal copy under another name is the same array.
  """
  present = [name for name in EMBEDDINGS if name in arrays]
  if not present:
    inner = [x for x in arrays.names if x.endswith(f".{EMBEDDINGS[0]}")]
    if inner:
      before = inner[0].removesuffix(EMBEDDINGS[0])
      raise ValueError(
        f"{path} has {inner[0]}, and no {EMBEDDINGS[0]}: it is a T5 within another "
        f"model, such as a classifier (T5ForSequenceClassification), or one whose "
        f"arrays' names have {before!r} in front; take a T5ForConditionalGeneration"
      )
    raise ValueError(f"{path} has no {EMBEDDINGS[0]}")
  embedding, *others = present
  own = [name for name in others if not arrays.are_equal(embedding, name)]
  is_tied = OUTPUT not in own
  refused = [name for name in own if name != OUTPUT]
  if refused:
    raise ValueError(
      f"{path}: {refused[0]} must equal {embedding}, since encoder and decoder "
      "share one embedding here; it differs"
    )
  return embedding, is_tied


def is_transposed(name: str) -> bool:
  """Hugging Face has projections [out, in] and the bias [buckets, heads]."""
  return name.endswith(("/kernel", "/rel_embedding"))


def array_names(config: T5Config, embedding: str) -> dict[str, str]:
  """Hugging Face's name of every array of a T5, by t5x's."""
  names = {"token_embedder/embedding": embedding}
  if not config.logits_via_embedding:
    names["decoder/logits_dense/kernel"] = OUTPUT
  self_name = "SelfAttention"
  stacks = {
    "encoder": (
      config.num_encoder_layers,
      (("attention", self_name), ("mlp", "DenseReluDense")),
      ("attention", "mlp"),
    ),
    "decoder": (
      config.num_decoder_layers,
      (
        ("self_attention", self_name),
        ("encoder_decoder_attention", "EncDecAttention"),
        ("mlp", "DenseReluDense"),
      ),
      ("self_attention", "cross_attention", "mlp"),
    ),
  }
  gated = len(config.mlp_activations) > 1
  mlp = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
  projections = {"query": "q", "key": "k", "value": "v", "out": "o"}
  for stack, (num_layers, sublayers, norms) in stacks.items():
    names[f"{stack}/{stack}_norm/scale"] = f"{stack}.final_layer_norm.weight"
    bias = f"layer.0.{self_name}.relative_attention_bias.weight"
    if not config.relpos_per_layer:
      names[f"{stack}/{_BIAS}"] = f"{stack}.block.0.{bias}"
    for i in range(num_layers):
      if config.relpos_per_layer:
        names[f"{stack}/layers_{i}/{_BIAS}"] = f"{stack}.block.{i}.{bias}"
      for j, (site, hf_site) in enumerate(sublayers):
        ours, theirs = f"{stack}/layers_{i}", f"{stack}.block.{i}.layer.{j}"
        names[f"{ours}/pre_{norms[j]}_layer_norm/scale"] = (
          f"{theirs}.layer_norm.weight"
        )
        parts = {name: name for name in mlp} if site == "mlp" else projections
        for part, hf_part in parts.items():
          names[f"{ours}/{site}/{part}/kernel"] = (
            f"{theirs}.{hf_site}.{hf_part}.weight"
          )
  return names
