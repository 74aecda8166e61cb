"""The controls under which other labels stand for a task's own.

None of a task's labels stands for itself, so what a T5 knows of the task is wrong.
Under "relabelled_wrong" the demonstrations show the same new labels, as often, but
other inputs beside them: who does not read which belongs to which does as well.
"""

import collections
import dataclasses
from collections.abc import Container, Mapping, Sequence

import numpy as np

from hyperjax.batch import Lengths
from hyperjax.data import joining, order, relabelling
from hyperjax.data.relabelling import Label, Labels, Relabelling
from hyperjax.data.store.store import Task
from hyperjax.scores import columns


@dataclasses.dataclass(frozen=True)
class _Shown:
  """What is replaced in a task under one draw of demonstrations."""

  right: Relabelling
  rows: np.ndarray  # demonstrations that fit
  wrong: np.ndarray  # whose outputs stand beside these where they are wrong
  known: frozenset[Label]  # that some of them shows, before it is replaced


class Relabelled:
  """What stands for the labels of an evaluation's tasks, draw by draw.

  Tasks have none that have no labels, or whose demonstrations show fewer than two
  of them, or have no room with the new ones.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    pools: Sequence[Sequence[Task]],
    lengths: Lengths,
  ):
    """Nothing is replaced yet.

    Args:
      tasks: whose rows are answered.
      pools: of each draw and task, where demonstrations come from.
      lengths: of what the models read.
    """
    self._tasks, self._pools, self._lengths = tasks, pools, lengths
    self._found: dict[tuple[int, int], _Shown] = {}

  def replace(
    self,
    demonstrations: Mapping[tuple[int, int], np.ndarray],
    kinds: Sequence[str],
    seed: int,
  ) -> None:
    """Draws what stands for labels.

    Args:
      demonstrations: rows of each task and draw.
      kinds: of `relabelling.KINDS`.
      seed: of the draws.
    """
    labels = Labels(self._tasks, self._pools[0], self._lengths, kinds)
    for (task, draw), rows in demonstrations.items():
      stream = order.Stream.EVALUATED_LABELS
      generator = order.generator(seed, stream, task, draw)
      right = labels.draw(task, generator, moves_all=True)
      if right is not None:
        self._add(task, draw, rows, right)

  def _add(
    self, task: int, draw: int, rows: np.ndarray, right: Relabelling
  ) -> None:
    pool = self._pools[draw][task]
    room = joining.Room.of(right.task(pool), (), self._lengths)
    kept, _ = room.keep_fitting(
      range(len(rows)), relabelling.most_joined(pool, rows, right)
    )
    shown = rows[kept]
    own = [_label(pool, row) for row in shown.tolist()]
    known = right.new.keys() & set(own)
    if len(known) > 1:  # of one alone nothing else could be wrong
      wrong = shown[_moved(own, right.new)]
      self._found[task, draw] = _Shown(right, shown, wrong, frozenset(known))

  def place(self, task: int, draw: int, control: str) -> object | None:
    """Demonstrations under a control; None where they are what they are."""
    found = self._of(task, draw, control)
    if found is None:
      return None
    pool = found.right.task(self._pools[draw][task])
    is_wrong = control == columns.RELABELLED_WRONG
    outputs = found.wrong if is_wrong else found.rows
    room = joining.Room.of(pool, (), self._lengths)
    return room.place(pool, found.rows, outputs)

  def task(self, task: int, draw: int, control: str) -> Task:
    """A task with the right answers of a control."""
    found, own = self._of(task, draw, control), self._tasks[task]
    return own if found is None else found.right.task(own)

  def rows(
    self, task: int, draw: int, control: str, rows: np.ndarray
  ) -> np.ndarray:
    """Those of some rows that are answered under a control.

    Where labels are replaced, those whose label some demonstration shows.
    """
    if columns.base(control) == columns.RIGHT:
      return rows
    found, own = self._of(task, draw, control), self._tasks[task]
    if found is None:
      return rows[:0]
    is_known = [_label(own, row) in found.known for row in rows.tolist()]
    return rows[np.asarray(is_known, bool)]

  def outputs(
    self, task: int, draw: int, control: str, given: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """What stands for some outputs of a task under a control."""
    found, end = self._of(task, draw, control), self._tasks[task].end_id
    if found is None:
      return list(given)
    return [found.right(ids, end) for ids in given]

  def __contains__(self, key: tuple[int, int]) -> bool:
    """Whether labels of a task are replaced in a draw."""
    return key in self._found

  @property
  def facts(self) -> Sequence[object]:
    """What determines it, in an order that is always the same."""
    return [
      (key, found.right, found.rows.tolist(), found.wrong.tolist())
      for key, found in self._found.items()
    ]

  def _of(self, task: int, draw: int, control: str) -> _Shown | None:
    if columns.base(control) == columns.RIGHT:
      return None
    return self._found.get((task, draw))


def _moved(own: Sequence[Label], labels: Container[Label]) -> np.ndarray:
  """Whose output each demonstration has instead; of another label where it can.

  Sorted by label and moved on by the most frequent one's count, an output meets
  its own label only where one is on more than half of them. What is no label
  stays.
  """
  moved = np.arange(len(own))
  at = [i for i, each in enumerate(own) if each in labels]
  at.sort(key=lambda i: own[i])
  most = max(collections.Counter(own[i] for i in at).values())
  moved[at] = np.roll(at, -most)
  return moved


def _label(task: Task, row: int) -> Label:
  return relabelling.label(task.rows.row(row, joining.TARGETS), task.end_id)
