"""A folder that says the sizes of a public T5 1.1, as Hugging Face's does.

Of its weights there is only what shows that the output layer is not the embedding.
"""

import json
import pathlib

import numpy as np
from safetensors import numpy as safetensors

# Of google/t5-v1_1-NAME: d_model, d_ff, num_heads, num_layers.
SIZES = {
  "small": (512, 1024, 6, 8),
  "large": (1024, 2816, 16, 24),
  "xl": (2048, 5120, 32, 24),
}


def write(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Makes the folder of a T5 of `SIZES`."""
  width, feed_forward, heads, layers = SIZES[name]
  facts = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": width,
    "d_kv": 64,
    "d_ff": feed_forward,
    "num_heads": heads,
    "num_layers": layers,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  }
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(json.dumps(facts))
  one = np.ones((1, 1), np.float32)
  arrays = {"shared.weight": one, "lm_head.weight": 2 * one}
  safetensors.save_file(arrays, folder / "model.safetensors")
  return folder
