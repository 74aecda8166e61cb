"""Whether adapters from a few examples are any good: told by those examples.

Each example is answered by an adapter that was written without it (leave-one-out; of
more than 16 examples in 16 parts), and by what there is without that adapter: the
plain T5, the T5 with the examples in its own input, an adapter that all tasks share.
The adapters of all tasks and parts are written together, and their rows answered
together, so that a check takes few passes of few shapes.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from hyperjax import checks
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.models import t5
from hyperjax.scores import columns, intervals, official_report, text_metrics
from hyperjax.serving import asking, held_out, remarks, selection
from hyperjax.serving import given as giving
from hyperjax.serving.answering_t5 import BATCH_SIZE
from hyperjax.serving.column import DIGITS, Column
from hyperjax.serving.examples import Example, Fitted

if TYPE_CHECKING:
  from hyperjax.serving.model import Model

ADAPTER, NONE, IN_INPUT = "adapter", columns.NONE, columns.IN_INPUT
SHARED = "shared"
LABELS = {
  ADAPTER: "with the adapter",
  NONE: "without the adapter",
  IN_INPUT: "with the examples in the input",
  SHARED: "with the shared adapter",
}
Metric = Annotated[str, checks.OneOf(text_metrics.METRICS)]
DEFAULT_METRIC = "equal"  # exact match, white space aside
_PARTS = 4  # where each takes passes to select what it reads


@dataclasses.dataclass(frozen=True)
class Verdict:
  """How an adapter's task fared on its own examples, each held out once."""

  metric: str  # of `text_metrics.METRICS`
  num_examples: int  # that were given
  num_parts: int  # in which they were held out
  held_out: tuple[Example, ...]  # those that were answered
  columns: Mapping[str, Column]  # of `LABELS`; none where nothing was held out
  remarks: tuple[str, ...] = ()  # what is odd about the examples

  def __repr__(self) -> str:
    """What it says, without the examples."""
    return f"Verdict({self.sentence()!r})"

  @property
  def score(self) -> float | None:
    """The mean by the metric, with adapters; None where nothing was held out."""
    return self.columns[ADAPTER].score if self.columns else None

  def meets(self, least: float) -> bool:
    """Whether the score is at least so high; never without one."""
    return self.score is not None and self.score >= least

  @functools.cached_property
  def gain(self) -> intervals.Interval | None:
    """By how much the adapter raises an output's log-likelihood, in nats.

    The mean over examples, against the plain T5.
    """
    if not self.columns:
      return None
    with_, without = (
      np.asarray(self.columns[name].log_likelihoods) for name in (ADAPTER, NONE)
    )
    return intervals.of_targets((with_ - without).tolist())

  @property
  def helps(self) -> bool:
    """Whether the adapter is better than the plain T5.

    By its score, and by what it raises log-likelihoods beyond chance (95%). An
    adapter that has learnt a task's words but not the task does the second alone.
    """
    if self.gain is None:
      return False
    is_above = self.columns[ADAPTER].score > self.columns[NONE].score
    return self.gain.low > 0 and is_above

  def sentence(self) -> str:
    """The verdict in words, to stand after the adapter's name."""
    if not self.columns:
      given = official_report.counted(self.num_examples, "example")
      return (
        f"{given}: none can be held out and answered from others, so nothing "
        "says whether the adapter is any good"
      )
    first, *others = (
      f"{LABELS[name]} {self._in_short(column)}"
      if name != ADAPTER
      else self._in_full(column)
      for name, column in self.columns.items()
    )
    found = "; ".join([first, *others])
    return found if self.helps else f"{found}: no better than the plain T5"

  def _in_full(self, column: Column) -> str:
    low, high = column.interval.low, column.interval.high
    ends = f"(95% interval {low:.2f} to {high:.2f})"
    count = len(column.scores)
    if self._counts:
      return (
        f"answers {sum(column.scores):.0f} of {count} held-out examples {ends}"
      )
    return (
      f"{self.metric} {column.score:.2f} on {count} held-out examples {ends}"
    )

  def _in_short(self, column: Column) -> str:
    if self._counts:
      return f"{sum(column.scores):.0f}"
    return f"{column.score:.2f}"

  @property
  def _counts(self) -> bool:
    """Whether an answer is right or wrong by the metric."""
    return self.metric in text_metrics.RIGHT_OR_WRONG

  def as_json(self) -> dict[str, Any]:
    """All of it but texts, which an adapter folder keeps no copy of."""
    gain = self.gain
    return {
      "metric": self.metric,
      "examples": self.num_examples,
      "held_out": len(self.held_out),
      "parts": self.num_parts,
      "columns": {name: x.as_json() for name, x in self.columns.items()},
      "gain": gain
      and [round(x, DIGITS) for x in (gain.mean, gain.low, gain.high)],
      "helps": self.helps,
      "remarks": list(self.remarks),
      "sentence": self.sentence(),
    }

  def as_json_of(self, adapter: str, words: str) -> dict[str, Any]:
    """The same, kept by an adapter that came of the one that was checked.

    Args:
      adapter: which was.
      words: that say so, in front of the sentence.
    """
    sentence = f"{words} {self.sentence()}"
    return self.as_json() | {"of": adapter, "sentence": sentence}


def check(
  model: "Model",
  given: giving.GivenExamples,
  instruction: str | None = None,
  **options: Any,
) -> Verdict:
  """The verdict on a task's examples; options as for `check_all`."""
  return check_all(model, [giving.as_examples(given)], instruction, **options)[
    0
  ]


def check_all(
  model: "Model",
  tasks: Sequence[giving.GivenExamples],
  instruction: str | None = None,
  *,
  metric: str = DEFAULT_METRIC,
  select: str = selection.FIRST,
  shared: Adapter | None = None,
  batch_size: int = BATCH_SIZE,
) -> list[Verdict]:
  """The verdicts on several tasks, all of which are answered together.

  Args:
    model: whose hypermodel writes the adapters.
    tasks: the examples of each, as for `Model.adapt`.
    instruction: as for `Model.adapt`.
    metric: of `text_metrics.METRICS`.
    select: of `selection.WAYS`, which examples are read where not all fit; those
      held out have no part in it.
    shared: an adapter to compare with, of the same T5.
    batch_size: rows that are answered together at most.

  Raises:
    ValueError: the metric is unknown, a task is no list of pairs, or no model
      reads an instruction.
    OutOfMemory: not even one row fits.
  """
  checks.rule_of(Metric).check("metric", metric)
  given = [
    giving.as_examples(task, f"tasks[{i}]") for i, task in enumerate(tasks)
  ]
  most = _PARTS if select in selection.COSTLY else held_out.NUM_PARTS
  parts = [
    part
    for number, task in enumerate(given)
    for part in held_out.parts(model.pool(task, instruction), number, most)
  ]
  offers = [selection.Offer(part.pool, part.others) for part in parts]
  read = selection.choose(model, offers, select, batch_size)
  written = selection.write(model, read)
  rows = [
    _Row(part.task, way, asked)
    for part, own, adapter in zip(parts, read, written, strict=True)
    for example in part.held
    for way, asked in _ways(example, own[0], adapter, shared).items()
  ]
  found = asking.answer(model, [row.asked for row in rows], batch_size)
  by_task: list[list[tuple[_Row, asking.Found]]] = [[] for _ in given]
  for row, answered in zip(rows, found, strict=True):
    by_task[row.task].append((row, answered))
  return [
    _verdict(
      metric,
      len(task),
      sum(part.task == number for part in parts),
      by_task[number],
      remarks.of(model, task),
    )
    for number, task in enumerate(given)
  ]


def check_adapter(
  model: "Model",
  adapter: Adapter,
  given: giving.GivenExamples,
  *,
  metric: str = DEFAULT_METRIC,
  batch_size: int = BATCH_SIZE,
) -> Verdict:
  """The verdict on an adapter by examples that it was not written from.

  Args:
    model: that it is of.
    adapter: beside which the plain T5 answers, under the same instruction.
    given: the examples, all of which are held out.
    metric: of `text_metrics.METRICS`.
    batch_size: rows that are answered together at most.

  Raises:
    ValueError: the metric is unknown.
    OutOfMemory: not even one row fits.
  """
  checks.rule_of(Metric).check("metric", metric)
  held = giving.as_examples(given)
  plain = dataclasses.replace(adapter, arrays=t5.NO_ADAPTERS)
  rows = [
    _Row(0, way, asking.Asked(example, own))
    for example in held
    for way, own in ((ADAPTER, adapter), (NONE, plain))
  ]
  found = asking.answer(model, [row.asked for row in rows], batch_size)
  answered = list(zip(rows, found, strict=True))
  remarked = remarks.of(model, held)
  return _verdict(metric, len(held), 1, answered, remarked)


class _Row(NamedTuple):
  """One way of answering a held-out example."""

  task: int
  way: str
  asked: asking.Asked


def _ways(
  example: Example, read: Fitted, own: Adapter, shared: Adapter | None
) -> dict[str, asking.Asked]:
  """What answers a held-out example; all read the same instruction."""
  plain = dataclasses.replace(own, arrays=t5.NO_ADAPTERS)
  found = {
    ADAPTER: asking.Asked(example, own),
    NONE: asking.Asked(example, plain),
    IN_INPUT: asking.Asked(example, plain, read),
  }
  if shared is not None:
    under = dataclasses.replace(own, arrays=shared.arrays)
    found[SHARED] = asking.Asked(example, under)
  return found


def _verdict(
  metric: str,
  num_examples: int,
  num_parts: int,
  rows: Sequence[tuple[_Row, asking.Found]],
  remarked: Sequence[str],
) -> Verdict:
  score = text_metrics.METRICS[metric]
  found = {}
  for way in dict.fromkeys(row.way for row, _ in rows):
    own = [(x.asked.example, y) for x, y in rows if x.way == way]
    found[way] = Column(
      tuple(y.text for _, y in own),
      tuple(score(y.text, [example.output]) for example, y in own),
      tuple(y.log_likelihood for _, y in own),
    )
  return Verdict(
    metric,
    num_examples,
    num_parts,
    tuple(x.asked.example for x, _ in rows if x.way == ADAPTER),
    found,
    tuple(remarked),
  )


def with_check(adapter: Adapter, check: Mapping[str, Any]) -> Adapter:
  """An adapter that says what a check of it came to, as JSON."""
  info = dataclasses.replace(adapter.info, check=check)
  return dataclasses.replace(adapter, info=info)
