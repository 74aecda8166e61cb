"""Whether the check of `hyperjax adapt` tells useful adapters from useless ones.

With the demo's model, or any other that was trained on the records family:

  python -m benchmarks.verdict --model=runs/demo_lora/multitask

Useful are those of held-out rules of the family, six examples each. Useless are those
of examples that no rule of the family made: outputs of random words, outputs of
another record, values exchanged for others of their field, a rule that changes from
record to record. What an adapter of all six examples is worth is measured on ten
fresh records, made as the examples were.
"""

import argparse
import json
import pathlib
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import measuring
from hyperjax import paths, serving
from hyperjax.tasks import records

TASKS, EXAMPLES, FRESH = 100, 6, 10
TIMED, REPEATS = 40, 5
Pairs = list[tuple[str, str]]


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, metavar="RUN")
  parser.add_argument("--backbone", metavar="FOLDER")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
  given = parser.parse_args(arguments)
  model = serving.load(given.model, given.backbone)
  found = {**quality(model), **seconds(model)}
  print(f"{measuring.machine()}; {given.model}")
  for name, value in found.items():
    shown = ", ".join(f"{x:.3f}" for x in value)
    print(f"  {name:52}{shown}")
  if given.json:
    paths.replace(given.json, json.dumps(found, indent=1) + "\n")


def quality(model: serving.Model) -> dict[str, list[float]]:
  """How well verdicts separate useful adapters from useless ones."""
  rules = sorted(records.held_out())[:TASKS]
  inside = [_inside(rule) for rule in rules]
  outside = [_outside(i, rule) for i, rule in enumerate(rules)]
  worth = [
    [_worth(model, task) for task in tasks] for tasks in (inside, outside)
  ]
  one, other = (
    serving.check_all(model, [task[:EXAMPLES] for task in tasks])
    for tasks in (inside, outside)
  )
  return {
    "fresh records right, useful and useless (mean)": [
      statistics.fmean(own) for own in worth
    ],
    "score of the check, useful and useless (mean)": [
      statistics.fmean(x.score or 0.0 for x in own) for own in (one, other)
    ],
    "useful, least score; useless, greatest": [
      min(x.score or 0.0 for x in one),
      max(x.score or 0.0 for x in other),
    ],
    "area under the curve, by score": [
      _area([x.score for x in one], [x.score for x in other])
    ],
    "area under the curve, by log-likelihood": [
      _area(
        *(
          [x.columns["adapter"].log_likelihood for x in own]
          for own in (one, other)
        )
      )
    ],
    "said to help, useful and useless": [
      float(sum(x.helps for x in own)) for own in (one, other)
    ],
    "|score - fresh records right|, mean over all": [
      statistics.fmean(
        abs((x.score or 0.0) - y)
        for x, y in zip([*one, *other], [*worth[0], *worth[1]], strict=True)
      )
    ],
  }


def seconds(model: serving.Model) -> dict[str, list[float]]:
  """Of a check of many tasks, and of one, once compiled: median, least, most."""
  rules = sorted(records.held_out())
  many = [_inside(rule)[:EXAMPLES] for rule in rules[:TIMED]]
  found = {}
  for name, tasks in (("tasks", many), ("task", many[:1])):
    taken = []
    for turn in range(REPEATS + 1):
      start = time.perf_counter()
      for verdict in serving.check_all(model, tasks):
        verdict.as_json()
      if turn:  # the first compiles
        taken.append(time.perf_counter() - start)
    found[f"seconds for {len(tasks)} {name} of {EXAMPLES}"] = [
      statistics.median(taken),
      min(taken),
      max(taken),
    ]
  return found


def _worth(model: serving.Model, task: Pairs) -> float:
  """Of fresh records, those answered right with an adapter of all examples."""
  adapter = model.adapt(task[:EXAMPLES])
  answers = model.predict([text for text, _ in task[EXAMPLES:]], adapter)
  wanted = [output for _, output in task[EXAMPLES:]]
  return float(np.mean([x == y for x, y in zip(answers, wanted, strict=True)]))


def _inside(rule: int) -> Pairs:
  rows = [
    *records.rule_rows(rule, "train")[:EXAMPLES],
    *records.rule_rows(rule, "validation")[:FRESH],
  ]
  return [(row["inputs"], row["targets"]) for row in rows]


def _outside(number: int, rule: int) -> Pairs:
  """Examples that no rule made, in one of four ways."""
  generator = random.Random(f"outside {number}")
  pairs = _inside(rule)
  inputs, outputs = [x for x, _ in pairs], [y for _, y in pairs]
  way = number % 4
  if way == 0:
    words = records.words()
    outputs = [
      " ".join(generator.sample(words, len(output.split())))
      for output in outputs
    ]
  elif way == 1:
    outputs = [*outputs[1:], outputs[0]]
  elif way == 2:
    changed = _exchanged(generator)
    outputs = [
      " ".join(changed.get(word, word) for word in output.split())
      for output in outputs
    ]
  else:
    drawn = generator.sample(sorted(records.held_out()), len(pairs))
    others: list[Any] = [_inside(other)[i] for i, other in enumerate(drawn)]
    inputs, outputs = [x for x, _ in others], [y for _, y in others]
  return list(zip(inputs, outputs, strict=True))


def _exchanged(generator: random.Random) -> dict[str, str]:
  """Every value for another of its field."""
  found = {}
  for values in records.VALUES.values():
    order = generator.sample(values, len(values))
    found |= dict(zip(order, [*order[1:], order[0]], strict=True))
  return found


def _area(useful: Sequence[Any], useless: Sequence[Any]) -> float:
  """The share of pairs in which the useful one is above; of equals half."""
  one, other = np.asarray(useful)[:, None], np.asarray(useless)[None]
  return float(np.mean((one > other) + 0.5 * (one == other)))


if __name__ == "__main__":
  main()
