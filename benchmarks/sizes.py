"""What a hypermodel trains, by its body and head: arrays of a state, by arithmetic.

T5 1.1 base to XXL with adapters as in gin/adapters/. Nothing is allocated: shapes
alone are asked for.

  python -m benchmarks.sizes --json=OUT
  python -m benchmarks.sizes --docs   # the tables of docs/hypermodels.md
"""

import argparse
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import scale_page
from hyperjax import adapters, optimizers, sharding, trees
from hyperjax.models import heads, hypermodel, problems, quantizing
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

# As gin/models/ has them, computed with as gin/stages/full_size.gin.
MODELS = {
  "base": T5Config(32128, 768, 12, 64, 2048, 12, 12),
  "large": T5Config(32128, 1024, 16, 64, 2816, 24, 24),
  "xl": T5Config(32128, 2048, 32, 64, 5120, 24, 24),
  "xxl": T5Config(32128, 4096, 64, 64, 10240, 24, 24),
}
ADAPTERS: Mapping[str, adapters.Spec] = {
  "prefix": adapters.PrefixSpec(32),
  "lora": adapters.LoraSpec(16),
}
# As gin/hypermodels/ has them.
BODIES: Mapping[str, Mapping[str, Any]] = {
  hypermodel.COPY: {},
  hypermodel.SHARED: {"body_rank": 16},
  hypermodel.FROZEN_ENCODER: {"decoder_layers": 2},
}
QUANTIZED = [x for x in quantizing.KEPT if x != quantizing.NONE]
DOCUMENT = scale_page.PAGE.with_name("hypermodels.md")


def problem_of(
  model: str, kind: str, body: str, head: str, quantization: str = "none"
) -> problems.HyperTuning:
  t5 = dataclasses.replace(MODELS[model], dtype="bfloat16", remat="full")
  frozen = dataclasses.replace(
    t5, param_dtype="bfloat16", quantization=quantization
  )
  return problems.HyperTuning(
    frozen,
    hypermodel.HyperT5Config(t5, 1024, body=body, head=head, **BODIES[body]),
    ADAPTERS[kind],
  )


def rows(
  models: Sequence[str] = tuple(MODELS), kinds: Sequence[str] = tuple(ADAPTERS)
) -> Iterator[dict[str, Any]]:
  """For each combination parameters, and bytes of a state with AdamW's moments."""
  for names in itertools.product(models, kinds, BODIES, heads.HEADS):
    yield row(*names)
  for model, quantization in itertools.product(models, QUANTIZED):
    yield row(model, "lora", hypermodel.SHARED, "shared", quantization)


def row(
  model: str, kind: str, body: str, head: str, quantization: str = "none"
) -> dict[str, Any]:
  """Of one combination; frozen parameters are counted without their scales."""
  trainer = Trainer(
    problem_of(model, kind, body, head, quantization),
    optimizers.AdamW(optimizers.Constant(1e-4)),
    sharding.MeshSpec().build(jax.devices()[:1]),
  )
  state = trainer.abstract
  frozen = [
    x
    for path, x in trees.flatten(state.frozen).items()
    if not path.endswith(f"/{quantizing.SCALE}")
  ]
  return {
    "model": model,
    "adapters": kind,
    "body": body,
    "head": head,
    "quantization": quantization,
    "trained": trees.count(state.params),
    "of_head": trees.count(state.params["hypermodel"]["head"]),
    "frozen": trees.count(frozen),
    "frozen_bytes": _bytes(state.frozen),
    "state_bytes": sum(
      _bytes(tree) for tree in (state.params, state.frozen, state.opt_state)
    ),
  }


def _bytes(tree: Any) -> int:
  return sum(
    math.prod(x.shape) * jnp.dtype(x.dtype).itemsize
    for x in jax.tree.leaves(tree)
  )


def tables(found: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
  """Lines by the names of the document's places for them, one for each kind."""
  made = {}
  for kind in ADAPTERS:
    lines = [
      "| T5 1.1 | body | head | trained | of these the head | frozen | state |",
      "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
      f"| {x['model']} | {x['body']} | {x['head']} | {x['trained'] / 1e6:,.1f} M "
      f"| {x['of_head'] / 1e6:,.1f} M | {x['frozen'] / 1e6:,.0f} M "
      f"| {x['state_bytes'] / 2**30:,.1f} GiB |"
      for x in found
      if x["adapters"] == kind and x["quantization"] == "none"
    ]
    made[f"sizes_{kind}"] = lines
  made["sizes_frozen"] = _frozen(found)
  return made


def _frozen(found: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines of frozen weights alone, by their quantization."""
  by_model: dict[str, dict[str, Any]] = {}
  for x in found:
    by_model.setdefault(x["model"], {}).setdefault(x["quantization"], x)
  lines = [
    "| T5 1.1 | float32 | bfloat16 | int8 | of float32 | int8_wo | of float32 |",
    "|---|---:|---:|---:|---:|---:|---:|",
  ]
  for model, own in by_model.items():
    whole = 4 * own["none"]["frozen"]
    cells = [whole, own["none"]["frozen_bytes"]]
    shown = [f"{x / 2**30:,.2f} GiB" for x in cells]
    for quantization in QUANTIZED:
      size = own[quantization]["frozen_bytes"]
      shown += [f"{size / 2**30:,.2f} GiB", f"{size / whole:.3f}"]
    lines.append(f"| {model} | {' | '.join(shown)} |")
  return lines


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--json", type=pathlib.Path, help="where rows are written"
  )
  parser.add_argument("--docs", action="store_true", help="writes docs/")
  given = parser.parse_args()
  found = list(rows())
  made = tables(found)
  for lines in made.values():
    print("\n".join([*lines, ""]))
  if given.json:
    given.json.write_text(json.dumps(found, indent=1) + "\n")
  if given.docs:
    for name, lines in made.items():
      scale_page.write(name, "\n".join(lines), DOCUMENT)


if __name__ == "__main__":
  main()
