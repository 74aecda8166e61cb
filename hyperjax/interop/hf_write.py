"""A T5 written as a Hugging Face folder, array by array.

What transformers 4 and 5 read alike. They disagree on one case, an output
layer of its own under scaled decoder outputs, which no published T5 has: see
`_output_facts`.
"""

import json
import logging
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.interop import hf, hf_shards, weights
from hyperjax.models.t5_layers import T5Config

_log = logging.getLogger(__name__)

_EMBEDDING = "token_embedder/embedding"
_GENERATION = "generation_config.json"
# T5's own: padding is 0 and starts the decoder, 1 ends a sequence.
_TOKENS = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


def write_folder(
  folder: pathlib.Path,
  source: weights.T5Source,
  dtype: str | None = None,
  shard_bytes: int = 2**30,
  others: Sequence[pathlib.Path] = (),
) -> None:
  """Writes `source` as a folder that transformers and `interop.hf` read.

  Arrays keep their type, and the T5 its identity, unless `dtype` names another
  type. Files of `others` are copied along. The folder appears when it is whole.

  Raises:
    ValueError: the folder exists already; arrays are missing or do not fit the
      configuration; transformers has no such T5; an unknown type.
  """
  check_absent(folder)
  if dtype is not None and dtype not in hf_shards.TYPES:
    raise ValueError(
      f"dtype must be one of {', '.join(hf_shards.TYPES)}, got {dtype!r}"
    )
  weights.check_whole(source)
  weights.check_memory(source)
  facts = _facts(source.config)
  with files.whole_folder(folder, check_absent, hf.CONFIG) as partial:
    partial.mkdir()
    stored = _write_arrays(partial, source, dtype, shard_bytes)
    # The name that both versions of transformers take.
    _write_json(partial / hf.CONFIG, facts | {"torch_dtype": stored})
    _write_json(partial / _GENERATION, _TOKENS)
    for file in others:
      shutil.copyfile(file, partial / file.name)


def check_absent(folder: pathlib.Path) -> None:
  """Refuses to write over something."""
  if folder.exists() or folder.is_symlink():
    raise ValueError(f"{folder} exists already; nothing is written over it")


def _write_arrays(
  folder: pathlib.Path,
  source: weights.T5Source,
  dtype: str | None,
  shard_bytes: int,
) -> str:
  """Writes the shards; returns the type of the embedding in them."""
  names = hf.array_names(source.config, hf.EMBEDDINGS[0])
  pairs = [(names[name], name) for name in sorted(names, key=weights.grouped)]
  if _has_own_copy(source.config):
    pairs.append((hf.OUTPUT, _EMBEDDING))
  hf_names = [hf_name for hf_name, _ in pairs]
  stored = ""
  with hf_shards.ShardWriter(folder, hf_names, shard_bytes) as writer:
    for hf_name, name in pairs:
      array = weights.finite(source, name, source.read(name))
      kind = array.dtype if dtype is None else weights.numpy_dtype(dtype)
      writer.write(hf_name, array.T if hf.is_transposed(name) else array, kind)
      stored = kind.name if name == _EMBEDDING else stored
      del array  # before the next one is read
    writer.close()
  return stored


def _facts(config: T5Config) -> dict[str, Any]:
  """config.json, but for the type of the arrays."""
  return {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": config.mlp_dim,
    "d_kv": config.head_dim,
    "d_model": config.emb_dim,
    **_activation_facts(config),
    "is_encoder_decoder": True,
    "layer_norm_epsilon": config.layer_norm_epsilon,
    "model_type": "t5",
    "num_decoder_layers": config.num_decoder_layers,
    "num_heads": config.num_heads,
    "num_layers": config.num_encoder_layers,
    "relative_attention_max_distance": config.relpos_max_distance,
    "relative_attention_num_buckets": config.relpos_buckets,
    **_output_facts(config),
    **_TOKENS,
    "use_cache": True,
    "vocab_size": config.vocab_size,
  }


def _activation_facts(config: T5Config) -> dict[str, Any]:
  activation, *gate = config.mlp_activations
  theirs = {ours: name for name, ours in reversed(hf.ACTIVATIONS.items())}
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


def _is_scaled(config: T5Config) -> bool:
  if config.scale_decoder_output is None:
    return config.logits_via_embedding
  return config.scale_decoder_output


def _has_own_copy(config: T5Config) -> bool:
  """Whether the embedding is written as the output layer, too.

  transformers 4 scales wherever the output layer is the embedding.
  """
  return config.logits_via_embedding and not _is_scaled(config)


def _output_facts(config: T5Config) -> dict[str, Any]:
  """Version 4 takes the first key for both, 5 the second for the scale.

  5 ties what has no `lm_head.weight` of its own, whatever the first key says.
  """
  is_tied = config.logits_via_embedding and not _has_own_copy(config)
  if _is_scaled(config) and not config.logits_via_embedding:
    _log.warning(
      "this T5 scales decoder outputs before an output layer of its own: "
      "transformers 4 cannot, and reads it as one that does not scale"
    )
  return {
    "tie_word_embeddings": is_tied,
    "scale_decoder_outputs": _is_scaled(config),
  }


def _write_json(file: pathlib.Path, content: dict[str, Any]) -> None:
  file.write_text(json.dumps(dict(sorted(content.items())), indent=2) + "\n")
