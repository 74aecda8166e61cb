"""T5 folders of Hugging Face: config.json and safetensors.

Numerics follow transformers 5: decoder outputs are scaled unless config.json
says `"tie_word_embeddings": false`, and the output layer is `lm_head.weight`
where the file has one, else the embedding.
"""

import json
import pathlib
from typing import Any

import numpy as np

from hyperjax.interop import weights
from hyperjax.models.t5_layers import T5Config

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# transformers' name of an activation: ours.
_ACTIVATIONS = {
  "relu": "relu",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "gelu": "gelu_exact",
  "silu": "silu",
  "swish": "silu",
}
_EMBEDDING = "shared.weight"
_EMBEDDING_COPIES = (
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
)
_OUTPUT = "lm_head.weight"


def is_folder(path: pathlib.Path) -> bool:
  """Whether `path` looks like a Hugging Face model folder."""
  return (path / CONFIG).is_file()


def open_folder(path: pathlib.Path) -> weights.T5Source:
  """The T5 in a Hugging Face folder; arrays are read when asked for.

  Raises:
    ValueError: not a T5, or one this package cannot represent; a damaged or
      incomplete folder.
  """
  facts = _read_json(path / CONFIG)
  shards = _shards(path)
  config = _config(facts, path, has_output=_OUTPUT in shards)
  embedding = _EMBEDDING
  if embedding not in shards:
    found = [name for name in _EMBEDDING_COPIES if name in shards]
    if not found:
      raise ValueError(f"{path} has no {_EMBEDDING}")
    embedding = found[0]
  names = _names(config, embedding)
  copies = {name for name in _EMBEDDING_COPIES if name in shards}
  known = set(names.values()) | copies
  # An unknown array stays visible under its own name: loading lists it.
  extra = {name: name for name in shards if name not in known}

  def read(name: str) -> np.ndarray:
    hf_name = (names | extra)[name]
    array = _read_array(shards[hf_name], hf_name)
    # Hugging Face stores projections [out, in] and the bias [buckets, heads].
    is_transposed = name.endswith(("/kernel", "/rel_embedding"))
    return array.T if is_transposed else array

  present = {name for name, hf_name in names.items() if hf_name in shards}
  return weights.T5Source(
    str(path), config, frozenset(present | set(extra)), read
  )


def _config(facts: Any, path: pathlib.Path, has_output: bool) -> T5Config:
  where = path / CONFIG
  kind = facts.get("model_type")
  if kind != "t5":
    reason = ""
    if kind == "umt5":
      reason = ": umT5 has one relative position bias per layer, T5 one a stack"
    raise ValueError(f"{where} is of model_type {kind!r}, not 't5'{reason}")

  def size(name: str) -> int:
    value = facts.get(name)
    if not isinstance(value, int):
      raise ValueError(f"{where}: {name} must be a whole number, got {value!r}")
    return value

  feed_forward = str(facts.get("feed_forward_proj", "relu"))
  gate, _, activation = feed_forward.rpartition("-")
  if feed_forward == "gated-gelu":
    activation = "gelu_new"
  activation = facts.get("dense_act_fn", activation)
  if gate not in ("", "gated") or activation not in _ACTIVATIONS:
    raise ValueError(
      f"{where}: feed_forward_proj {feed_forward!r} (dense_act_fn "
      f"{activation!r}) is none of {', '.join(_ACTIVATIONS)}, gated or not"
    )
  activations = (_ACTIVATIONS[activation],) + (("linear",) if gate else ())
  num_layers = size("num_layers")
  num_decoder_layers = facts.get("num_decoder_layers")
  return T5Config(
    vocab_size=size("vocab_size"),
    emb_dim=size("d_model"),
    num_heads=size("num_heads"),
    head_dim=size("d_kv"),
    mlp_dim=size("d_ff"),
    num_encoder_layers=num_layers,
    num_decoder_layers=(
      num_layers if num_decoder_layers is None else num_decoder_layers
    ),
    mlp_activations=activations,
    logits_via_embedding=not has_output,
    scale_decoder_output=facts.get("tie_word_embeddings") is not False,
    relpos_buckets=facts.get("relative_attention_num_buckets", 32),
    relpos_max_distance=facts.get("relative_attention_max_distance", 128),
    layer_norm_epsilon=facts.get("layer_norm_epsilon", 1e-6),
  )


def _names(config: T5Config, embedding: str) -> dict[str, str]:
  """Hugging Face's name of every array of a T5, by t5x's."""
  names = {"token_embedder/embedding": embedding}
  if not config.logits_via_embedding:
    names["decoder/logits_dense/kernel"] = _OUTPUT
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


def _shards(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """Which file of the folder holds each array."""
  if (path / INDEX).is_file():
    where = _read_json(path / INDEX).get("weight_map")
    if not isinstance(where, dict):
      raise ValueError(f"{path / INDEX} has no weight_map")
    shards = {}
    for name, file in where.items():
      if pathlib.PurePath(str(file)).name != file:
        raise ValueError(
          f"{path / INDEX}: {name} lies in {file!r}, which is not a file of "
          "this folder"
        )
      shards[name] = path / file
    listed: dict[pathlib.Path, set[str]] = {}
    for name, file in shards.items():
      listed.setdefault(file, set()).add(name)
    for file, names in sorted(listed.items()):
      lost = sorted(names - set(_keys(file)))
      if lost:
        raise ValueError(f"{file} lacks {lost[0]}, which {INDEX} puts there")
    return shards
  if (path / SINGLE).is_file():
    return dict.fromkeys(_keys(path / SINGLE), path / SINGLE)
  other = sorted(file.name for file in path.glob("pytorch_model*.bin"))
  if other:
    raise ValueError(
      f"{path} holds {other[0]}, a pickle, which is never read: loading one "
      "can run any program. Save the model again with safetensors"
    )
  raise ValueError(f"{path} has neither {SINGLE} nor {INDEX}")


def _keys(file: pathlib.Path) -> list[str]:
  with _open(file) as tensors:
    return list(tensors.keys())


def _read_array(file: pathlib.Path, name: str) -> np.ndarray:
  with _open(file) as tensors:
    return tensors.get_tensor(name)


def _open(file: pathlib.Path):
  import safetensors  # a start-up cost only loading pays

  if not file.is_file():
    raise ValueError(f"{file} is missing")
  try:
    return safetensors.safe_open(file, framework="np")
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{file} is not a whole safetensors file: {error}"
    ) from error


def _read_json(path: pathlib.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is not JSON: {error}") from error
