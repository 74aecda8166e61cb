"""A T5 written as a checkpoint of t5x, in its own format, array by array.

checkpoint_0/ has a file `checkpoint`, msgpack of what lies where, and a folder of zarr
for each array: parameters alone, one array for each layer, as published T5s are. A
bias of each layer stays in its layer; t5x's unscanned umT5 has it there.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperjax import trees
from hyperjax.data import files
from hyperjax.interop import hf_shards, hf_write, weights

STEP = "checkpoint_0"
_CHUNK_BYTES = 2**26
_COMPRESSOR = {"id": "gzip", "level": 1}


def write_folder(
  folder: pathlib.Path,
  source: weights.T5Source,
  dtype: str | None = None,
  others: Mapping[str, str | bytes] | None = None,
) -> None:
  """Writes `source` as the checkpoint of step 0 in `folder`.

  Arrays keep their type, and the T5 its identity, unless `dtype` names another type.
  Files of `others`, by their names, stand beside the checkpoint. The folder appears
  when it is whole.

  Raises:
    ValueError: the folder exists already; arrays are missing or do not fit the
      configuration, or hold what is no number; an unknown type.
  """
  from flax import serialization  # a cost of files alone

  hf_write.check_absent(folder)
  hf_write.check_dtype(dtype)
  weights.check_whole(source)
  weights.check_memory(source)
  with files.whole_folder(folder, hf_write.check_absent) as partial:
    step = partial / STEP
    step.mkdir(parents=True)
    target: dict[str, Any] = {}
    for name in sorted(source.shapes, key=weights.grouped):
      array = weights.finite(source, name, source.read(name))
      kind = array.dtype if dtype is None else weights.numpy_dtype(dtype)
      hf_write.check_holds(source, name, array, kind)
      target[name] = _write_array(step, name, array.astype(kind, copy=False))
      del array  # before the next one is read
    tree = {
      "version": 3,
      "optimizer": {
        "target": trees.unflatten(target),
        "state": {"step": np.int32(0)},
      },
    }
    # Last: it makes a checkpoint whole.
    whole = serialization.msgpack_serialize(tree)
    (step / "checkpoint").write_bytes(whole)
    hf_write.write_files(partial, others or {})


def _write_array(
  step: pathlib.Path, name: str, array: np.ndarray
) -> dict[str, Any]:
  """Writes an array's folder; returns what t5x's file says of it."""
  import tensorstore  # a cost of files alone

  if array.dtype.name not in hf_shards.TYPES:
    raise ValueError(f"{name} is of {array.dtype.name}, which t5x has not")
  folder = f"target.{name.replace('/', '.')}"
  row_bytes = max(1, array[:1].nbytes)
  rows = min(len(array), max(1, _CHUNK_BYTES // row_bytes))
  metadata = {
    "shape": list(array.shape),
    "chunks": [rows, *array.shape[1:]],
    "compressor": _COMPRESSOR,
  }
  opened = tensorstore.open(
    {
      "driver": "zarr",
      "kvstore": {"driver": "file", "path": f"{step / folder}/"},
      "metadata": metadata,
      "dtype": array.dtype.name,
    },
    create=True,
  ).result()
  opened.write(array).result()
  return {
    "driver": "zarr",
    "dtype": array.dtype.name,
    "kvstore": {"driver": "file", "path": f"{folder}/"},
    "metadata": metadata,
  }
