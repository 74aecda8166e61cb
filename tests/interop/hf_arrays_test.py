"""Arrays of Hugging Face's files that memory does not hold."""

import json
import struct

import pytest

from hyperjax.interop import hf_arrays
from hyperjax.memory.answer import OutOfMemory

TERABYTE = 1 << 40


def test_an_array_larger_than_memory_is_refused_before_it_is_read(tmp_path):
  header = json.dumps(
    {
      "large": {
        "dtype": "BF16",
        "shape": [TERABYTE // 2],
        "data_offsets": [0, TERABYTE],
      },
    }
  ).encode()
  with (tmp_path / "model.safetensors").open("wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
    file.truncate(8 + len(header) + TERABYTE)
  arrays = hf_arrays.open_arrays(tmp_path)
  assert arrays.shape("large") == (TERABYTE // 2,)
  with pytest.raises(OutOfMemory, match=r"large \[549755813888\] takes 1,024"):
    arrays.read("large")
