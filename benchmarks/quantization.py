"""How far a T5 in eight bits is from itself: logits on fixed random inputs.

  python -m benchmarks.quantization tests/data/hf_tiny/t5_1_1 runs/demo_lora/backbone

Of each T5 (a folder of Hugging Face, or a run) and each quantization: the largest
difference of a logit and the root mean square of all, over the root mean square of
the logits' own deviations at their positions; how often the likeliest token stays;
and bytes of the weights over those in float32, what is kept being in bfloat16.
"""

import argparse
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from hyperjax import trees
from hyperjax.artifacts import restore
from hyperjax.interop import logits, weights
from hyperjax.models import forward, quantizing

_ROWS = 64


def measured(path: str, quantization: str) -> dict[str, Any]:
  """Of the T5 at `path`."""
  source = restore.open_t5(pathlib.Path(path))
  config = dataclasses.replace(
    source.config, dtype="float32", param_dtype="float32"
  )
  lengths_B = 8 + np.arange(_ROWS) % 17
  encoder_BS, decoder_BT = logits.draw(config, lengths_B, 9)

  def of(config):
    params = weights.load(source, config).params
    apply = jax.jit(functools.partial(forward.logits, config))
    return params, apply(forward.Setting(params, encoder_BS), decoder_BT)

  whole, wanted_BTV = of(config)
  eight = dataclasses.replace(config, quantization=quantization)
  _, found_BTV = of(eight)
  apart_BTV = np.asarray(found_BTV - wanted_BTV)
  spread = float(np.sqrt(np.var(wanted_BTV, axis=-1).mean()))
  kept = dataclasses.replace(eight, param_dtype="bfloat16")
  stored = trees.flatten(weights.load(source, kept).params).values()
  return {
    "t5": path,
    "quantization": quantization,
    "largest": float(np.abs(apart_BTV).max()) / spread,
    "root_mean_square": float(np.sqrt((apart_BTV**2).mean())) / spread,
    "same": float((found_BTV.argmax(-1) == wanted_BTV.argmax(-1)).mean()),
    "bytes": sum(x.nbytes for x in stored) / (4 * trees.count(whole)),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("t5", nargs="+")
  print("| T5 | quantization | largest | RMS | likeliest stays | bytes |")
  print("|---|---|---:|---:|---:|---:|")
  for path in parser.parse_args().t5:
    for quantization in (quantizing.INT8, quantizing.INT8_WO):
      x = measured(path, quantization)
      print(
        f"| {x['t5']} | {x['quantization']} | {x['largest']:.4f} "
        f"| {x['root_mean_square']:.4f} | {x['same']:.1%} | {x['bytes']:.3f} |",
        flush=True,
      )


if __name__ == "__main__":
  main()
