"""Labels that are replaced within an episode: only its demonstrations tell them.

In a task of few distinct outputs each may stand for another, in demonstrations and
targets alike: the task's own in another order, those of another task, or symbols
that mean nothing (symbol tuning; Wei et al., 2023). What a T5, or one adapter for
all, knows of the task is then of no use. No tokenizer is needed: labels are the ids
of stored outputs, and symbols are ids that stand in stored inputs.
"""

import dataclasses
import logging
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from hyperjax import checks
from hyperjax.batch import Lengths
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.store.row_arrays import Rows
from hyperjax.data.store.store import Task

PERMUTED, BORROWED, SYMBOLS = "permuted", "borrowed", "symbols"
KINDS = (PERMUTED, BORROWED, SYMBOLS)
Kinds = Annotated[Sequence[str], checks.Some(KINDS, least=1)]

_log = logging.getLogger(__name__)

_MOST = 32  # labels of a task
_EACH = 4  # rows that a label has at the least, on average
_LOOKED = 512  # rows of a task, for its labels
_READ = 16  # rows of a task, for symbols
_SPECIAL = (0, 1, 2)  # padding, end and unknown of T5's vocabularies

Label = tuple[int, ...]  # ids without an end


@dataclasses.dataclass(frozen=True)
class Relabelling:
  """What stands for each label of a task; what is no label stays as it is."""

  kind: str  # of `KINDS`
  new: Mapping[Label, Label]

  @property
  def longest(self) -> int:
    """Ids of a new label at most, its end among them."""
    return 1 + max(map(len, self.new.values()))

  def __call__(self, ids: np.ndarray, end: int) -> np.ndarray:
    """An output as it is shown; it ends in `end` if it did."""
    own = label(ids, end)
    found = self.new.get(own)
    if found is None:
      return ids
    closing = [end] * (len(ids) - len(own))
    return np.asarray([*found, *closing], np.int32)

  def task(self, task: Task) -> Task:
    """A task with its outputs replaced, and without what it says of them."""
    rows = RelabelledRows(task.rows, self, task.end_id)
    return dataclasses.replace(task, rows=rows, instruction=None)


@dataclasses.dataclass(frozen=True)
class RelabelledRows:
  """Rows of a task whose outputs are replaced; lengths of these are bounds."""

  rows: Rows
  relabelling: Relabelling
  end: int

  @property
  def features(self) -> tuple[str, ...]:
    return self.rows.features

  @property
  def tokens(self) -> Any:
    return self.rows.tokens

  @property
  def hashes(self) -> Any:
    return self.rows.hashes

  @property
  def records(self) -> Any:
    return self.rows.records

  def __len__(self) -> int:
    return len(self.rows)

  def row(self, index: int, feature: str) -> np.ndarray:
    ids = self.rows.row(index, feature)
    return self.relabelling(ids, self.end) if feature == TARGETS else ids

  def length(self, index: int, feature: str) -> int:
    """How many ids `row` gives, or more: no token is read for it."""
    own = self.rows.length(index, feature)
    return max(own, self.relabelling.longest) if feature == TARGETS else own

  def span(self, position: int) -> tuple[int, int]:
    return self.rows.span(position)

  def lengths(self, feature: str) -> np.ndarray:
    return self._bounded(self.rows.lengths(feature), feature)

  def closed_lengths(
    self, feature: str, end: int, first: int, last: int
  ) -> np.ndarray:
    own = self.rows.closed_lengths(feature, end, first, last)
    return self._bounded(own, feature)

  def longest(self, feature: str) -> int:
    own = self.rows.longest(feature)
    return max(own, self.relabelling.longest) if feature == TARGETS else own

  def record(self, index: int) -> dict[str, Any]:
    return self.rows.record(index)

  def _bounded(self, lengths: np.ndarray, feature: str) -> np.ndarray:
    if feature != TARGETS:
      return lengths
    return np.maximum(lengths, self.relabelling.longest)


class Labels:
  """The labels of some tasks, and what may stand for them.

  A task has labels if at most 32 different outputs were found in it, each in four
  rows on average. Of a large task 512 rows are looked at, evenly spaced; an output
  that stands in none of them is not replaced.

  Args:
    tasks: whose outputs are replaced.
    pools: of each task, where demonstrations come from.
    lengths: of what the models read; a new label fits in its targets.
    kinds: of `KINDS`, those that are drawn from.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    pools: Sequence[Task],
    lengths: Lengths,
    kinds: Sequence[str] = KINDS,
  ):
    self._kinds, self._room = tuple(kinds), lengths.targets - 1
    self._labels = [
      _labels(task, pool) for task, pool in zip(tasks, pools, strict=True)
    ]
    self._sets = sorted({own for own in self._labels if own is not None})
    ends = {task.end_id for task in tasks}
    # Only what a new label may be, whichever vocabulary it is of.
    self._symbols = sorted(
      {
        symbol
        for task, own in zip(tasks, self._labels, strict=True)
        if own is not None
        for row in _spread(len(task.rows), _READ)
        for symbol in task.rows.row(row, INPUTS).tolist()
      }.difference(_SPECIAL, ends)
    )

  def of(self, task: int) -> tuple[Label, ...] | None:
    """The labels of a task, in order; None where it has too many, or one."""
    return self._labels[task]

  def tell(self, share: float) -> None:
    """Says of how many tasks episodes are relabelled in a share; warns of none."""
    count = sum(own is not None for own in self._labels)
    text = "relabel is %s: of %d tasks %d have labels that can be replaced"
    say = _log.info if count else _log.warning
    say(text, share, len(self._labels), count)

  def draw(
    self, task: int, generator: np.random.Generator, moves_all: bool = False
  ) -> Relabelling | None:
    """New labels for those of a task; None where it has none.

    Without `moves_all` a label may come to stand for itself: in another order
    all orders are as likely, so that nothing is told by the labels alone.
    """
    labels = self._labels[task]
    if labels is None:
      return None
    makers = {
      PERMUTED: self._permuted,
      BORROWED: self._borrowed,
      SYMBOLS: self._of_symbols,
    }
    for number in generator.permutation(len(self._kinds)).tolist():
      kind = self._kinds[number]
      new = makers[kind](labels, generator, moves_all)
      if new is None or any(len(each) > self._room for each in new):
        continue
      if moves_all and any(map(operator.eq, labels, new)):
        continue
      return Relabelling(kind, dict(zip(labels, new, strict=True)))
    return None

  def _permuted(
    self,
    labels: tuple[Label, ...],
    generator: np.random.Generator,
    moves_all: bool,
  ) -> list[Label]:
    order = generator.permutation(len(labels)).tolist()
    if not moves_all:
      return [labels[i] for i in order]
    # All in one circle, each standing for the one before.
    after = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [labels[after[i]] for i in range(len(labels))]

  def _borrowed(
    self,
    labels: tuple[Label, ...],
    generator: np.random.Generator,
    moves_all: bool,
  ) -> list[Label] | None:
    others = [
      own
      for own in self._sets
      if len(own) >= len(labels)
      and own != labels
      and not (moves_all and set(own) & set(labels))
    ]
    if not others:
      return None
    own = others[int(generator.integers(len(others)))]
    chosen = generator.choice(len(own), len(labels), replace=False)
    return [own[i] for i in chosen.tolist()]

  def _of_symbols(
    self,
    labels: tuple[Label, ...],
    generator: np.random.Generator,
    moves_all: bool,
  ) -> list[Label] | None:
    del moves_all  # no label is a symbol
    known = [x for x in self._symbols if (x,) not in labels]
    if len(known) < len(labels):
      return None
    chosen = generator.choice(len(known), len(labels), replace=False)
    return [(known[i],) for i in chosen.tolist()]


def most_joined(task: Task, rows: np.ndarray, shown: Relabelling) -> np.ndarray:
  """Ids of rows as demonstrations with other labels, at most; int32 [rows]."""
  found = []
  for row in rows.tolist():
    inputs, outputs = (
      task.rows.closed_lengths(feature, task.end_id, row, row + 1)[0]
      for feature in (INPUTS, TARGETS)
    )
    found.append(inputs + max(outputs, shown.longest))
  return np.asarray(found, np.int32)


def label(ids: np.ndarray, end: int) -> Label:
  """An output without the end that closes it."""
  own = tuple(ids.tolist())
  return own[:-1] if own and own[-1] == end else own


def _labels(task: Task, pool: Task) -> tuple[Label, ...] | None:
  """The different outputs of a task and its pool, where these are few."""
  found: set[Label] = set()
  looked = 0
  for own in [task] if pool is task else [task, pool]:
    for ids in _outputs(own):
      found.add(label(ids, own.end_id))
      looked += 1
      if len(found) > _MOST:
        return None
  is_few = len(found) > 1 and looked >= _EACH * len(found)
  return tuple(sorted(found)) if is_few and () not in found else None


def _outputs(task: Task) -> Iterator[np.ndarray]:
  for row in _spread(len(task.rows), _LOOKED):
    yield task.rows.row(row, TARGETS)


def _spread(count: int, most: int) -> list[int]:
  """At most so many of some rows, evenly spaced."""
  if count <= most:
    return list(range(count))
  return (np.arange(most) * count // most).tolist()
