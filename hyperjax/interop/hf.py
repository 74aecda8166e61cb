"""T5 folders of Hugging Face: config.json and safetensors, or flax's msgpack.

Numerics follow transformers 5. Decoder outputs are scaled as config.json's
`scale_decoder_outputs` says, and where it says nothing, unless it has
`"tie_word_embeddings": false`. Whether the output layer is the embedding is
not in config.json: it is, unless the files hold another `lm_head.weight`.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from hyperjax import checks
from hyperjax.data import files
from hyperjax.interop import hf_arrays, hf_flax, weights
from hyperjax.models.t5_layers import T5Config

CONFIG = "config.json"
VOCABULARY = "spiece.model"  # a SentencePiece model beside it

# transformers' name of an activation: ours.
ACTIVATIONS = {
  "relu": "relu",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "gelu": "gelu_exact",
  "silu": "silu",
  "swish": "silu",
}
_SIZE = checks.Whole(1)
# Each is listed by name before any array is looked at.
_LAYERS = checks.Whole(1, 1024)
OUTPUT = "lm_head.weight"
# Names of the token embedding; the first one present is the embedding.
EMBEDDINGS = (
  "shared.weight",
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
  OUTPUT,
)
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
  facts = files.read_json(path / CONFIG)
  try:
    config = _config(facts)
  except ValueError as error:
    raise ValueError(f"{path / CONFIG}: {error}") from error
  arrays = _arrays(path)
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
  return weights.T5Source(str(path), config, shapes, read)


def _arrays(path: pathlib.Path) -> hf_arrays.Arrays | hf_flax.Arrays:
  """Those of safetensors, before those of flax."""
  if not hf_flax.is_here(path) or hf_arrays.is_here(path):
    return hf_arrays.open_arrays(path)
  return hf_flax.open_arrays(path)


def _embedding(
  path: pathlib.Path, arrays: hf_arrays.Arrays | hf_flax.Arrays
) -> tuple[str, bool]:
  """Which array embeds tokens, and whether it is the output layer too.

  As in transformers, an equal copy under another name is the same array.
  """
  present = [name for name in EMBEDDINGS if name in arrays]
  if not present:
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


def _config(facts: dict[str, Any]) -> T5Config:
  """The T5 that config.json describes; its output layer is not in there."""
  kind = facts.get("model_type")
  if kind != "t5":
    reason = ""
    if kind == "umt5":
      reason = ": umT5 has one relative position bias per layer, T5 one a stack"
    raise ValueError(f"model_type must be 't5', got {kind!r}{reason}")
  num_layers = _size(facts, "num_layers", rule=_LAYERS)
  num_decoder_layers = num_layers
  if facts.get("num_decoder_layers") is not None:
    num_decoder_layers = _size(facts, "num_decoder_layers", rule=_LAYERS)
  return T5Config(
    vocab_size=_size(facts, "vocab_size"),
    emb_dim=_size(facts, "d_model"),
    num_heads=_size(facts, "num_heads"),
    head_dim=_size(facts, "d_kv"),
    mlp_dim=_size(facts, "d_ff"),
    num_encoder_layers=num_layers,
    num_decoder_layers=num_decoder_layers,
    mlp_activations=_activations(facts),
    scale_decoder_output=_is_scaled(facts),
    relpos_buckets=_size(facts, "relative_attention_num_buckets", 32),
    relpos_max_distance=_size(facts, "relative_attention_max_distance", 128),
    layer_norm_epsilon=_number(facts, "layer_norm_epsilon", 1e-6),
  )


def _activations(facts: dict[str, Any]) -> tuple[str, ...]:
  feed_forward = str(facts.get("feed_forward_proj", "relu"))
  gate, _, activation = feed_forward.rpartition("-")
  if feed_forward == "gated-gelu":
    activation = "gelu_new"
  activation = str(facts.get("dense_act_fn", activation))
  if gate not in ("", "gated") or activation not in ACTIVATIONS:
    raise ValueError(
      f"feed_forward_proj {feed_forward!r} (dense_act_fn {activation!r}) is "
      f"none of {', '.join(ACTIVATIONS)}, gated or not"
    )
  return (ACTIVATIONS[activation],) + (("linear",) if gate else ())


def _is_scaled(facts: dict[str, Any]) -> bool:
  # transformers 5 writes the first key, and the second always as true; before,
  # the second was written alone and decided.
  if "scale_decoder_outputs" in facts:
    return bool(_flag(facts, "scale_decoder_outputs"))
  return _flag(facts, "tie_word_embeddings") is not False


def _size(
  facts: dict[str, Any],
  name: str,
  default: int | None = None,
  rule: checks.Whole = _SIZE,
) -> int:
  value: Any = facts.get(name, default)
  rule.check(name, value)
  return value


def _number(facts: dict[str, Any], name: str, default: float) -> float:
  value = facts.get(name, default)
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value):
    raise ValueError(f"{name} must be a finite number, got {value!r}")
  return float(value)


def _flag(facts: dict[str, Any], name: str) -> bool | None:
  value = facts.get(name)
  if value is not None and not isinstance(value, bool):
    raise ValueError(f"{name} must be true, false or null, got {value!r}")
  return value


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
    names[f"{stack}/relpos_bias/rel_embedding"] = (
      f"{stack}.block.0.layer.0.{self_name}.relative_attention_bias.weight"
    )
    for i in range(num_layers):
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
