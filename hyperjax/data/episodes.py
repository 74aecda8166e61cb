"""Few-shot episodes by index over stored tokens.

Episode i is a pure function of (seed, i): its task by rate, its targets by that
task's permutation, its demonstrations drawn from the rest. So a position in the
data is one integer, whatever the number of hosts, and any episode can be looked
at without those before it.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from hyperjax.batch import Context, Lengths, trim
from hyperjax.data import order
from hyperjax.data.store import Task

INPUTS, TARGETS = "inputs", "targets"
_MAX_DRAWS = 64

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FewShot:
  """What an episode is made of.

  `num_demonstrations` is drawn evenly from `[low, high]` for each episode, so
  that a model trained for many also meets few. `num_targets` rows (G) share
  one context.
  """

  num_demonstrations: Sequence[int] = (1, 16)
  num_targets: int = 1

  def __post_init__(self):
    low, high = self.num_demonstrations
    if not 1 <= low <= high:
      raise ValueError(
        "FewShot.num_demonstrations must be [low, high] with 1 <= low <= "
        f"high, got {list(self.num_demonstrations)}"
      )
    if self.num_targets < 1:
      raise ValueError(
        f"FewShot.num_targets must be at least 1, got {self.num_targets}"
      )


@dataclasses.dataclass(frozen=True)
class Episode:
  """Which rows meet: what an index stands for, before any token is read."""

  task: int
  demonstrations: np.ndarray  # rows, in the order they are joined
  targets: np.ndarray  # rows
  num_dropped: int  # demonstrations drawn that found no room


class Episodes:
  """All episodes of some tasks; index with any whole number from 0.

  Within an epoch of a task no row is a target twice. A demonstration never
  equals a target of its episode, as a row or as text (equal inputs), and is
  never cut: one that finds no room is dropped. A draw none of whose
  demonstrations fits is skipped, counted in `num_skipped`, and made again.

  Raises:
    ValueError: a task has too few rows, or no task has a demonstration that
      fits.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    few_shot: FewShot,
    lengths: Lengths,
    seed: int = 0,
  ):
    if not tasks:
      raise ValueError("a mixture without tasks has no episodes")
    if not lengths.demonstrations:
      raise ValueError("TASK_FEATURE_LENGTHS lacks 'demonstrations'")
    self.few_shot, self.lengths, self.seed = few_shot, lengths, seed
    self.num_skipped = 0
    for task in tasks:
      _check_rows(task, few_shot)
    sizes = [joined_lengths(task) for task in tasks]
    has_room = _have_room(tasks, sizes, lengths.demonstrations)
    self.tasks = [tasks[i] for i in has_room]
    self._sizes = [sizes[i] for i in has_room]
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)

  def __getitem__(self, index: int) -> Context:
    """The token ids of an episode, demonstrations joined."""
    episode = self.episode(index)
    task = self.tasks[episode.task]
    return Context(
      demonstrations=join(task, episode.demonstrations),
      **self._targets(task, episode.targets),
    )

  def _targets(self, task: Task, rows: np.ndarray) -> dict:
    def read(feature: str, length: int):
      return [
        trim(task.rows.row(i, feature), length, task.eos_id) for i in rows
      ]

    return {
      "inputs": read(INPUTS, self.lengths.inputs),
      "targets": read(TARGETS, self.lengths.targets),
    }

  def episode(self, index: int) -> Episode:
    """The rows of an episode.

    Raises:
      ValueError: draw after draw, no demonstration fits.
    """
    task, count = self._order[index]
    num_rows = len(self.tasks[task].rows)
    num_targets = self.few_shot.num_targets
    groups = num_rows // num_targets
    epoch, group = divmod(count, groups)
    first = group * num_targets
    for draw in range(_MAX_DRAWS):
      key = (self.seed, 2, task, count, draw)
      if draw == 0:
        positions = np.arange(first, first + num_targets)
        targets = order.permuted(positions, num_rows, self.seed, 3, task, epoch)
      else:
        targets = order.permuted(np.arange(num_targets), num_rows, *key, 0)
      demonstrations, dropped = self._draw(task, targets, key)
      if len(demonstrations):
        return Episode(task, demonstrations, targets, dropped)
      self.num_skipped += 1
    raise ValueError(
      f"{self.tasks[task].name}: in {_MAX_DRAWS} draws for episode {index} "
      f"no demonstration had room in {self.lengths.demonstrations} tokens "
      "or differed from the targets"
    )

  def _draw(
    self, task: int, targets: np.ndarray, key: tuple[int, ...]
  ) -> tuple[np.ndarray, int]:
    """Rows other than the targets that fit together, and how many did not."""
    rows = self.tasks[task].rows
    low, high = self.few_shot.num_demonstrations
    wanted = int(order.generator(*key, 1).integers(low, high + 1))
    taken: list[int] = []
    target_hashes = rows.hashes[targets]
    # A permutation's beginning is a draw without replacement; a first look is
    # nearly always long enough.
    for looked in (wanted + 2 * len(targets), len(rows)):
      looked = min(looked, len(rows))
      found = order.permuted(np.arange(looked), len(rows), *key, 2)
      is_other = ~np.isin(rows.hashes[found], target_hashes)
      taken = found[is_other][:wanted].tolist()
      if len(taken) == wanted:
        break
    return keep_fitting(taken, self._sizes[task], self.lengths.demonstrations)


def keep_fitting(
  rows: Sequence[int], sizes: np.ndarray, room: int
) -> tuple[np.ndarray, int]:
  """Those of `rows`, in order, that fit in `room` together; how many do not.

  Half a demonstration teaches a wrong label, so none is cut.
  """
  kept = []
  for row in rows:
    if sizes[row] <= room:
      kept.append(row)
      room -= int(sizes[row])
  return np.asarray(kept, np.int64), len(rows) - len(kept)


def join(task: Task, rows: Sequence[int] | np.ndarray) -> np.ndarray:
  """Demonstrations as the hypermodel reads them: input, end, output, end, ..."""
  parts = []
  for row in rows:
    for feature in (INPUTS, TARGETS):
      ids = task.rows.row(row, feature)
      parts.append(ids)
      if not _ends(task, ids):
        parts.append(np.asarray([_separator(task)], np.int32))
  return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def joined_lengths(task: Task) -> np.ndarray:
  """Tokens that each row takes as a demonstration, int32 [rows]."""
  rows = task.rows
  total = np.zeros(len(rows), np.int32)
  for feature in (INPUTS, TARGETS):
    lengths = rows.lengths(feature)
    first = rows.features.index(feature) + 1
    last_ids = (
      rows.tokens[np.maximum(rows.offsets[first :: len(rows.features)] - 1, 0)]
      if len(rows.tokens)
      else np.zeros(len(rows), np.int32)
    )
    total += lengths.astype(np.int32)
    total += (lengths == 0) | (last_ids != _separator(task))
  return total


def _separator(task: Task) -> int:
  return 1 if task.eos_id is None else task.eos_id


def _ends(task: Task, ids: np.ndarray) -> bool:
  return len(ids) > 0 and ids[-1] == _separator(task)


def _check_rows(task: Task, few_shot: FewShot) -> None:
  for feature in (INPUTS, TARGETS):
    if feature not in task.rows.features:
      raise ValueError(
        f"task {task.name!r} has no feature {feature!r}: only text-to-text "
        f"tasks make episodes, its features are {task.rows.features}"
      )
  needed = few_shot.num_targets + 1
  if len(task.rows) < needed:
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}, has {len(task.rows)} rows; "
      f"an episode needs {needed}: {few_shot.num_targets} targets and a "
      "demonstration"
    )
  if len(np.unique(task.rows.hashes)) < 2:
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}: all {len(task.rows)} rows "
      "have the same input, so no demonstration differs from a target"
    )


def _have_room(
  tasks: Sequence[Task], sizes: Sequence[np.ndarray], room: int
) -> list[int]:
  """Tasks with two different demonstrations that fit; the others are named."""
  kept, left_out = [], []
  for i, task in enumerate(tasks):
    distinct = len(np.unique(task.rows.hashes[sizes[i] <= room]))
    (kept if distinct >= 2 else left_out).append(i)
  if not kept:
    shortest = min(int(of_task.min()) for of_task in sizes)
    raise ValueError(
      f"TASK_FEATURE_LENGTHS['demonstrations'] is {room}, which leaves no "
      "room for a single demonstration: two of a task must fit, and the "
      f"shortest of all has {shortest} tokens"
    )
  if left_out:
    _log.warning(
      "%d of %d tasks are left out: fewer than two of their demonstrations "
      "fit in %d tokens (TASK_FEATURE_LENGTHS['demonstrations']): %s",
      len(left_out),
      len(tasks),
      room,
      ", ".join(tasks[i].name for i in left_out),
    )
  return kept
