"""One table: each figure beside its peer, or the limit that it has, and the ratio.

Works of a row run in turn in one process, and the time of the process's cores is
compared, which other work on the machine slows less than the clock. Peers are t5x,
where `T5X_PATH` has it (`benchmarks.t5x`), else transformers in torch, where that can be
imported. Limits are the work's own matrix products and nothing else, and as much
arithmetic in products of 1,024 x 1,024. Ratios are the other's by this one's: above 1
this package takes less.

  python -m benchmarks.table [--json=OUT] [--repeats=5]
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import measuring, step_flops, step_time, t5x
from hyperjax.models import flops

HEADS = ("figure", "this", "beside it", "that", "ratio")
STEPS = ("prefix, G = 1", "LoRA, G = 1")
SQUARES = "square products of as many operations"
Works = Mapping[str, Callable[[], Any]]


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of the table."""

  figure: str
  own: float
  beside: str
  other: float
  unit: str

  @property
  def ratio(self) -> float:
    return self.other / self.own

  @property
  def words(self) -> list[str]:
    own, other = (f"{x:,.3g} {self.unit}" for x in (self.own, self.other))
    return [self.figure, own, self.beside, other, f"{self.ratio:.2f}"]


def in_turn(figure: str, works: Works, repeats: int) -> Iterator[Row]:
  """The first work beside each of the others: least seconds of the cores."""
  taken = t5x.measure(works, repeats)
  least = {name: min(own["cores"]) for name, own in taken.items()}
  own, *others = works
  for name in others:
    yield Row(figure, least[own], name, least[name], "s")


def of_t5(repeats: int) -> Iterator[Row]:
  """Train step, forward pass and greedy decoding of T5 1.1 small."""
  own, operations = t5x.own_works()
  name, others = peer()
  for kind, work in own.items():
    works = {"this": work}
    if kind in others:
      works[name] = others[kind]
    works[SQUARES] = step_time.at_best(operations[kind])
    yield from in_turn(f"T5 1.1 small, {kind}", works, repeats)


def peer() -> tuple[str, Works]:
  """What else computes the same here, if anything does."""
  if os.environ.get("T5X_PATH"):
    return "t5x, gathered embeddings", t5x.t5x_works()
  if importlib.util.find_spec("transformers"):
    from benchmarks import transformers_works

    return "transformers", transformers_works.works()
  return "", {}


def of_hypertuning(repeats: int) -> Iterator[Row]:
  """A small hypermodel's step beside the products that it needs."""
  for name in STEPS:
    spec, rows = step_time.CASES[name]
    trainer, batch = step_time.make_trainer(spec), step_time.make_batch(rows)
    jaxpr = trainer.trace_train_step(batch).jaxpr
    works = {
      "this": step_time.Step(trainer, batch),
      "its own products": step_time.repeat_products(jaxpr),
      SQUARES: step_time.at_best(flops.count(jaxpr)),
    }
    yield from in_turn(f"hypertuning step, {name}", works, repeats)


def of_operations() -> Iterator[Row]:
  """What a step computes beside what the formula says that it needs."""
  for kind in ("prefix", "lora"):
    problem = step_flops.problem_of("t5_1_1_large", kind)
    sizes = flops.Sizes(
      *(step_flops.CONTEXTS, step_flops.CONTEXTS),
      *(step_flops.DEMONSTRATIONS, step_flops.INPUTS, step_flops.TARGETS),
    )
    needed = flops.needed(problem, sizes)["total"] / 1e12
    for remat in ("none", "full"):
      counted = step_flops.count(step_flops.with_remat(problem, remat), sizes)
      figure = f"operations of T5-Large's step, {kind}, remat {remat}"
      yield Row(figure, counted / 1e12, "needed", needed, "TFLOP")


def table(rows: Sequence[Row]) -> str:
  """In Markdown, columns aligned."""
  lines = [list(HEADS), *(row.words for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, ["-" * width for width in widths])
  return "\n".join(
    "| "
    + " | ".join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    )
    + " |"
    for line in lines
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--repeats", type=int, default=5)
  arguments = parser.parse_args()
  print(measuring.machine())
  rows: list[Row] = []
  repeats = arguments.repeats
  parts = (of_t5(repeats), of_hypertuning(repeats), of_operations())
  for row in itertools.chain(*parts):
    rows.append(row)
    # At once as well, for who does not wait for the end.
    print(", ".join(row.words), file=sys.stderr, flush=True)
  print(table(rows))
  print(f"load while it ran, of one, five and 15 minutes: {os.getloadavg()}")
  if arguments.json:
    found = [dataclasses.asdict(row) | {"ratio": row.ratio} for row in rows]
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
