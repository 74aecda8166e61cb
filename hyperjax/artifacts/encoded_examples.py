"""What lets an adapter be updated exactly: the encoder's output, kept beside it.

Demonstrations encoded separately meet in the hypermodel's decoder alone, which
attends to all their positions and knows neither rows nor order. So positions
without padding are all there is to keep, and further ones are put behind them.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperjax.data import files, json_text
from hyperjax.interop import hf_arrays

FILE = "encoded.safetensors"
_ARRAY, _ABOUT = "encoded", "about"
_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Encoded:
  """The encoder's output for all rows that an adapter was written from."""

  values: np.ndarray  # [S, D], of all rows' tokens, as computed
  num_rows: int


def joined(parts: Sequence[Encoded]) -> Encoded:
  """Of all rows together."""
  return Encoded(
    np.concatenate([part.values for part in parts]),
    sum(part.num_rows for part in parts),
  )


def write(folder: pathlib.Path, encoded: Encoded, adapter: str) -> None:
  """Writes the file of a new folder, for the adapter of that identity."""
  values = np.ascontiguousarray(encoded.values)
  about = {
    "adapter": adapter,
    "rows": encoded.num_rows,
    "sha256": _hash(values),
  }
  # One entry: safetensors writes several in no fixed order.
  metadata = {_ABOUT: json.dumps(about)}
  files.write_arrays(folder / FILE, {_ARRAY: values}, metadata)


def read(folder: pathlib.Path, adapter: str) -> Encoded | None:
  """What a folder keeps for the adapter of that identity; None without a file.

  Raises:
    ValueError: the file is damaged, or is of another adapter.
  """
  path = folder / FILE
  if not path.is_file():
    return None
  values, about = _open(path)
  is_numbers = values.ndim == 2 and values.dtype.name in _DTYPES
  if not is_numbers or _hash(values) != about["sha256"]:
    raise ValueError(
      f"{path} is damaged: its values hash to something else than it says"
    )
  if about["adapter"] != adapter:
    raise ValueError(
      f"{path} is of the adapter {about['adapter'][:16]}, the one beside it is "
      f"{adapter[:16]}"
    )
  return Encoded(values, about["rows"])


def _open(path: pathlib.Path) -> tuple[np.ndarray, dict[str, Any]]:
  with hf_arrays.naming(path), hf_arrays.open_file(path) as file:
    found = (file.metadata() or {}).get(_ABOUT)
    if found is None or list(file.keys()) != [_ARRAY]:
      raise ValueError(f"{path} holds no encoder's output")
    values = file.get_tensor(_ARRAY)
  about = json_text.parsed(f"{path}, {_ABOUT}", found.encode())
  files.text_field(about, "adapter", str(path))
  files.whole_field(about, "rows", str(path), 1)
  files.text_field(about, "sha256", str(path))
  return values, about


def _hash(values: np.ndarray) -> str:
  digest = hashlib.sha256(f"{values.dtype} {values.shape} ".encode())
  digest.update(np.ascontiguousarray(values).view(np.uint8).data)
  return digest.hexdigest()
