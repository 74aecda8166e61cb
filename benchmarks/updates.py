"""Adapters updated with further examples against all read at once, on records.

With any run whose hypermodel was trained on the records family:

  python -m benchmarks.updates --model=runs/demo_lora/multitask

For each rule that no training split holds, the first examples of its task are
read in several ways, and the same ten records answered. Answers exactly right
(%), and how far each way is from the same examples read at once: arrays (the
largest relative difference, median over rules), answers equal (%), divergence
(mean, in nats a token).
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from benchmarks import measuring
from hyperjax import serving
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.serving import distance
from hyperjax.serving.answering_t5 import Options
from hyperjax.tasks import records

AT_ONCE = (1, 2, 3, 4, 8)
PARTS = ((2, 2), (3, 1), (1, 1, 1, 1), (4, 4))


@dataclasses.dataclass
class Found:
  """Of one way to read examples: for each rule, one value."""

  right: list[float] = dataclasses.field(default_factory=list)
  distances: list[distance.Distance] = dataclasses.field(default_factory=list)

  def line(self, name: str) -> str:
    shown = f"{name:24}{100 * statistics.mean(self.right):8.1f}"
    found = [x.answers for x in self.distances if x.answers is not None]
    if not found:
      return shown
    arrays = statistics.median(x.arrays for x in self.distances)
    equal = 100 * statistics.mean(x.equal for x in found)
    divergence = statistics.mean(x.divergence for x in found)
    return f"{shown}{arrays:12.1e}{equal:9.1f}{divergence:13.1e}"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, metavar="RUN")
  parser.add_argument("--rules", type=int, default=records.NUM_HELD_OUT)
  given = parser.parse_args()
  model = serving.load(given.model)
  rules = sorted(records.held_out())[: given.rules]
  found = _measure(model, rules)
  print(f"{measuring.machine()}; {given.model}, {len(rules)} rules\n")
  print(f"{'':24}{'right':>8}{'arrays':>12}{'equal':>9}{'divergence':>13}")
  for name, values in found.items():
    print(values.line(name))


def _measure(model: serving.Model, rules: Sequence[int]) -> dict[str, Found]:
  found: dict[str, Found] = {}
  asked = [row["inputs"] for row in records.rule_rows(rules[0], "validation")]
  options = Options(batch_size=len(asked))
  for rule in rules:
    wanted = [row["targets"] for row in records.rule_rows(rule, "validation")]
    for name, adapter, again in _ways(model, rule):
      own = found.setdefault(name, Found())
      texts = model.answer(asked, [adapter], options).texts
      same = [x == y for x, y in zip(texts, wanted, strict=True)]
      own.right.append(statistics.mean(same))
      if again is not None:
        arrays = distance.of_arrays(again, adapter)
        answers = distance.of_answers(model, again, adapter, asked, len(asked))
        own.distances.append(distance.Distance(0, arrays, answers))
  return found


def _ways(
  model: serving.Model, rule: int
) -> Iterator[tuple[str, Adapter, Adapter | None]]:
  """Names and adapters, updates with that of all their examples read at once."""
  pairs = [
    (row["inputs"], row["targets"]) for row in records.rule_rows(rule, "train")
  ]
  is_separate = model.lengths.are_separate
  any_one = model.adapt(pairs[:1])
  whole = {}
  for count in AT_ONCE:
    adapter = model.read_again(any_one, pairs[:count])
    if adapter.info.origin["demonstrations"]["count"] < count:
      continue  # one row has no room for all of them
    whole[count] = adapter
    yield f"{count} at once", adapter, None
  for parts in PARTS:
    for by_mean in (False, True) if is_separate else (True,):
      adapter = model.adapt(pairs[: parts[0]], keep_encoded=is_separate)
      begin = parts[0]
      for size in parts[1:]:
        more = pairs[begin : begin + size]
        adapter, begin = model.update(adapter, more, by_mean), begin + size
      way = "by mean" if by_mean else "exact"
      name = f"{'+'.join(map(str, parts))}, {way}"
      yield name, adapter, whole.get(begin)


if __name__ == "__main__":
  main()
