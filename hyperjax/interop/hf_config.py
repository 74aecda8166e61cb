"""config.json and generation_config.json of a Hugging Face T5, read and written.

Numerics follow transformers 5. Decoder outputs are scaled as `scale_decoder_outputs`
says, and where it says nothing, unless there is `"tie_word_embeddings": false`; an
mT5's never are. Whether the output layer is the embedding is not in config.json.
"""

import dataclasses
import logging
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from hyperjax import checks
from hyperjax.data import files, lfs
from hyperjax.models.t5_layers import T5Config

_log = logging.getLogger(__name__)

CONFIG, GENERATION = "config.json", "generation_config.json"

# transformers' name of an activation: ours.
ACTIVATIONS = {
  "relu": "relu",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "gelu": "gelu_exact",
  "gelu_python": "gelu_exact",
  "silu": "silu",
  "swish": "silu",
}
# transformers' `model_type`: its class, and its default of `feed_forward_proj`.
KINDS = {
  "t5": ("T5ForConditionalGeneration", "relu"),
  "mt5": ("MT5ForConditionalGeneration", "gated-gelu"),
  "umt5": ("UMT5ForConditionalGeneration", "gated-gelu"),
}
_SIZE = checks.Whole(1)
# Each is listed by name before any array is looked at.
_LAYERS = checks.Whole(1, 1024)
# Ours, theirs, and T5's own.
_IDS = (
  ("start_id", "decoder_start_token_id", 0),
  ("eos_ids", "eos_token_id", 1),
  ("pad_id", "pad_token_id", 0),
)
# What the program that writes a folder says of itself and of its arrays.
_WRITERS = (
  "_name_or_path",
  "architectures",
  "dtype",
  "torch_dtype",
  "transformers_version",
)
# What configurations of every kind may say besides what is read here.
_OF_ALL = (
  *_WRITERS,
  "attn_implementation",
  "bos_token_id",
  "chunk_size_feed_forward",
  "classifier_dropout",
  "dropout_rate",
  "gradient_checkpointing",
  "id2label",
  "initializer_factor",
  "is_decoder",
  "is_encoder_decoder",
  "label2id",
  "model_type",
  "n_positions",
  "output_attentions",
  "output_hidden_states",
  "output_past",
  "return_dict",
  "task_specific_params",
  "tokenizer_class",
  "use_cache",
)


@dataclasses.dataclass(frozen=True)
class Files:
  """What the files of a folder say, as they say it."""

  config: Mapping[str, Any]
  generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(folder: pathlib.Path) -> tuple[T5Config, Files]:
  """The T5 of a folder, but for its output layer, and what its files say.

  Raises:
    ValueError: it is no T5, or none that this package computes.
  """
  path = folder / CONFIG
  lfs.check(path)
  said = Files(files.read_json(path))
  lfs.check(folder / GENERATION)
  if (folder / GENERATION).is_file():
    said = Files(said.config, files.read_json(folder / GENERATION))
  try:
    return _config(said), said
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def _config(said: Files) -> T5Config:
  facts = said.config
  kind = facts.get("model_type")
  if kind not in KINDS:
    raise ValueError(
      f"model_type must be one of {', '.join(KINDS)}, got {kind!r}"
      f"{_foreign(facts)}"
    )
  if facts.get("quantization_config") is not None:
    raise ValueError(
      "its weights are quantized (quantization_config), which is not read; "
      "dequantize them with transformers (model.dequantize()) and save it again"
    )
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
    mlp_activations=_activations(facts, KINDS[kind][1]),
    scale_decoder_output=kind != "mt5" and _is_scaled(facts),
    relpos_buckets=_size(facts, "relative_attention_num_buckets", 32),
    relpos_max_distance=_size(facts, "relative_attention_max_distance", 128),
    relpos_per_layer=kind == "umt5",
    layer_norm_epsilon=_number(facts, "layer_norm_epsilon", 1e-6),
    **_ids(said),
  )


def _foreign(facts: Mapping[str, Any]) -> str:
  """Which of its fields no T5 has."""
  theirs = {theirs for _, theirs, _ in _IDS}
  known = {*_OF_ALL, *theirs, *_SIZES.values(), *_OTHERS}
  found = sorted(name for name in facts if name not in known)
  return f", which also says {', '.join(found[:8])}" if found else ""


def _activations(facts: Mapping[str, Any], default: str) -> tuple[str, ...]:
  feed_forward = str(facts.get("feed_forward_proj", default))
  gate, _, activation = feed_forward.rpartition("-")
  if feed_forward == "gated-gelu":
    activation = "gelu_new"
  activation = str(facts.get("dense_act_fn", activation))
  if gate not in ("", "gated") or activation not in ACTIVATIONS:
    raise ValueError(
      f"feed_forward_proj {feed_forward!r} (dense_act_fn {activation!r}) is "
      f"none of {', '.join(ACTIVATIONS)}, gated or not"
    )
  # As in transformers the flag goes before the name.
  is_gated = _flag(facts, "is_gated_act")
  is_gated = bool(gate) if is_gated is None else is_gated
  return (ACTIVATIONS[activation],) + (("linear",) if is_gated else ())


def _is_scaled(facts: Mapping[str, Any]) -> bool:
  # transformers 5 writes the first key, and the second always as true; before,
  # the second was written alone and decided.
  if "scale_decoder_outputs" in facts:
    return bool(_flag(facts, "scale_decoder_outputs"))
  return _flag(facts, "tie_word_embeddings") is not False


def _ids(said: Files) -> dict[str, Any]:
  """Special ids: decoding's own file goes before the model's."""
  found: dict[str, Any] = {}
  for ours, theirs, default in _IDS:
    value = said.generation.get(theirs)
    value = said.config.get(theirs) if value is None else value
    value = default if value is None else value
    if ours == "eos_ids":
      value = tuple(value) if isinstance(value, list) else (value,)
    own = value if isinstance(value, tuple) else (value,)
    for one in own:
      checks.Whole(0).check(theirs, one)
    found[ours] = value
  return found


def _size(
  facts: Mapping[str, Any],
  name: str,
  default: int | None = None,
  rule: checks.Whole = _SIZE,
) -> int:
  value: Any = facts.get(name, default)
  rule.check(name, value)
  return value


def _number(facts: Mapping[str, Any], name: str, default: float) -> float:
  value = facts.get(name, default)
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value):
    raise ValueError(f"{name} must be a finite number, got {value!r}")
  return float(value)


def _flag(facts: Mapping[str, Any], name: str) -> bool | None:
  value = facts.get(name)
  if value is not None and not isinstance(value, bool):
    raise ValueError(f"{name} must be true, false or null, got {value!r}")
  return value


# Of `T5Config`, by its field: config.json's name.
_SIZES = {
  "emb_dim": "d_model",
  "head_dim": "d_kv",
  "mlp_dim": "d_ff",
  "num_decoder_layers": "num_decoder_layers",
  "num_encoder_layers": "num_layers",
  "num_heads": "num_heads",
  "layer_norm_epsilon": "layer_norm_epsilon",
  "relpos_buckets": "relative_attention_num_buckets",
  "relpos_max_distance": "relative_attention_max_distance",
  "vocab_size": "vocab_size",
}
_OTHERS = (
  "dense_act_fn",
  "feed_forward_proj",
  "is_gated_act",
  "scale_decoder_outputs",
  "tie_word_embeddings",
)


def written(
  config: T5Config, said: Files | None, dtype: str
) -> tuple[dict[str, Any], dict[str, Any]]:
  """config.json and generation_config.json of a T5.

  Args:
    config: of the T5.
    said: what the files that it was read from say; what is no business of ours
      is kept.
    dtype: of its arrays.

  Raises:
    ValueError: transformers has no such T5.
  """
  said = said or Files({})
  kind = _kind(config, said)
  # As they were read, so that they mean the same when they are read again.
  ids = _written_ids(config)
  own = {
    **{name: getattr(config, field) for field, name in _SIZES.items()},
    **_activation_facts(config, said),
    **_output_facts(config),
    "architectures": [KINDS[kind][0]],
    "is_encoder_decoder": True,
    "model_type": kind,
    # The name that both versions of transformers take.
    "torch_dtype": dtype,
  }
  kept = {
    name: value
    for name, value in said.config.items()
    if name not in _WRITERS and value is not None
  }
  generation = {
    name: value
    for name, value in said.generation.items()
    if name not in _WRITERS and value is not None
  }
  return {"use_cache": True} | ids | kept | own, ids | generation


def has_own_copy(config: T5Config) -> bool:
  """Whether the embedding is written as the output layer, too.

  transformers 4 scales wherever the output layer is the embedding.
  """
  return config.logits_via_embedding and not config.is_output_scaled


def _kind(config: T5Config, said: Files) -> str:
  """The `model_type` that transformers computes this with."""
  if config.relpos_per_layer:
    return "umt5"
  was_mt5 = said.config.get("model_type") == "mt5"
  return "mt5" if was_mt5 and not config.is_output_scaled else "t5"


def _written_ids(config: T5Config) -> dict[str, Any]:
  ids = {theirs: getattr(config, ours) for ours, theirs, _ in _IDS}
  ends = list(config.eos_ids)
  ids["eos_token_id"] = ends[0] if len(ends) == 1 else ends
  return ids


def _activation_facts(config: T5Config, said: Files) -> dict[str, Any]:
  """As they were read, where that says the same: they have several names."""
  default = KINDS.get(str(said.config.get("model_type")), KINDS["t5"])[1]
  is_said = "feed_forward_proj" in said.config
  if is_said and _activations(said.config, default) == tuple(
    config.mlp_activations
  ):
    return {}
  activation, *gate = config.mlp_activations
  theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  if gate not in ([], ["linear"]) or activation not in theirs:
    raise ValueError(
      f"mlp_activations {tuple(config.mlp_activations)!r} are not among "
      f"transformers' T5s: one of {', '.join(theirs)}, with 'linear' or alone"
    )
  name = theirs[activation]
  # transformers takes "gated-gelu" for T5 1.1's approximate gelu.
  named = "gelu" if gate and name == "gelu_new" else name
  return {
    "dense_act_fn": name,
    "feed_forward_proj": f"gated-{named}" if gate else named,
    "is_gated_act": bool(gate),
  }


def _output_facts(config: T5Config) -> dict[str, Any]:
  """Version 4 takes the first key for both, 5 the second for the scale.

  5 ties what has no `lm_head.weight` of its own, whatever the first key says.
  """
  is_tied = config.logits_via_embedding and not has_own_copy(config)
  if config.is_output_scaled and not config.logits_via_embedding:
    _log.warning(
      "this T5 scales decoder outputs before an output layer of its own: "
      "transformers 4 cannot, and reads it as one that does not scale"
    )
  return {
    "tie_word_embeddings": is_tied,
    "scale_decoder_outputs": config.is_output_scaled,
  }
