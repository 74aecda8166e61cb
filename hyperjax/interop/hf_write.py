"""A T5 written as a Hugging Face folder, array by array.

What transformers 4 and 5 read alike. They disagree on one case, an output
layer of its own under scaled decoder outputs, which no published T5 has: see
`_output_facts`.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperjax.data import files
from hyperjax.interop import hf, hf_config, hf_shards, weights

_EMBEDDING = "token_embedder/embedding"


def write_folder(
  folder: pathlib.Path,
  source: weights.T5Source,
  dtype: str | None = None,
  shard_bytes: int = 2**30,
  others: Mapping[str, str | bytes] | None = None,
) -> None:
  """Writes `source` as a folder that transformers and `interop.hf` read.

  Arrays keep their type, and the T5 its identity, unless `dtype` names another
  type. Files of `others`, by their names, stand beside. The folder appears when it
  is whole.

  Raises:
    ValueError: the folder exists already; arrays are missing or do not fit the
      configuration; transformers has no such T5; an unknown type.
  """
  check_absent(folder)
  check_dtype(dtype)
  weights.check_whole(source)
  weights.check_memory(source)
  hf_config.written(
    source.config, source.said, ""
  )  # refuses what it cannot say
  with files.whole_folder(folder, check_absent) as partial:
    partial.mkdir()
    stored = _write_arrays(partial, source, dtype, shard_bytes)
    facts, generation = hf_config.written(source.config, source.said, stored)
    _write_json(partial / hf_config.CONFIG, facts)
    _write_json(partial / hf_config.GENERATION, generation)
    write_files(partial, others or {})


def write_files(
  folder: pathlib.Path, contents: Mapping[str, str | bytes]
) -> None:
  """Writes files into a folder, by their names."""
  for name, content in contents.items():
    is_text = isinstance(content, str)
    (folder / name).write_bytes(content.encode() if is_text else content)


def check_dtype(dtype: str | None) -> None:
  """Refuses a type that no file of weights has."""
  if dtype is not None and dtype not in hf_shards.TYPES:
    raise ValueError(
      f"dtype must be one of {', '.join(hf_shards.TYPES)}, got {dtype!r}"
    )


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
  if hf_config.has_own_copy(source.config):
    pairs.append((hf.OUTPUT, _EMBEDDING))
  hf_names = [hf_name for hf_name, _ in pairs]
  stored = ""
  with hf_shards.ShardWriter(folder, hf_names, shard_bytes) as writer:
    for hf_name, name in pairs:
      array = weights.finite(source, name, source.read(name))
      kind = array.dtype if dtype is None else weights.numpy_dtype(dtype)
      check_holds(source, name, array, kind)
      writer.write(hf_name, array.T if hf.is_transposed(name) else array, kind)
      stored = kind.name if name == _EMBEDDING else stored
      del array  # before the next one is read
    writer.close()
  return stored


def check_holds(
  source: weights.T5Source, name: str, array: np.ndarray, kind: np.dtype
) -> None:
  """Refuses a type in which some value of an array is infinite."""
  if kind.itemsize >= array.dtype.itemsize and kind.name != "float16":
    return
  with np.errstate(over="ignore"):
    largest = np.abs(array).max().astype(kind)
  if not np.isfinite(largest.astype(np.float64)):
    raise ValueError(
      f"{source.path}: the parameter {name} has values up to "
      f"{float(np.abs(array).max()):.3g}, which {kind.name} does not hold; take "
      "bfloat16 or float32"
    )


def _write_json(file: pathlib.Path, content: dict[str, Any]) -> None:
  file.write_text(json.dumps(dict(sorted(content.items())), indent=2) + "\n")
