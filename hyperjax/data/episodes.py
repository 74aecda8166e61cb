"""Few-shot episodes by index over stored tokens.

Episode i is a pure function of (seed, i): its task by rate, its targets by that
task's permutation, its demonstrations drawn from the rest. So a position in the
data is one integer, whatever the number of hosts, and any episode can be looked
at without those before it.
"""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from hyperjax import checks
from hyperjax.batch import Context, Lengths, Sizes
from hyperjax.data import instructions, joining, order, reading
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.order import Stream
from hyperjax.data.store import row_arrays
from hyperjax.data.store.store import Task

_log = logging.getLogger(__name__)


NumDemonstrations = Annotated[Sequence[int], checks.Span(0, checks.MAX_LENGTH)]


@dataclasses.dataclass(frozen=True)
class FewShot:
  """What an episode is made of.

  `num_demonstrations` is drawn evenly from `[low, high]` for each episode, so
  that a model trained for many also meets few; it may be 0 where the hypermodel
  reads an instruction. `num_targets` rows (G) share one context.
  `instruction_readers` are those of `instructions.READERS` that read the task's.
  """

  num_demonstrations: NumDemonstrations = (1, 16)
  num_targets: checks.Count = 1
  instruction_readers: instructions.Readers = ()

  def __post_init__(self):
    checks.fields(self)
    low, _ = self.num_demonstrations
    if low < 1 and instructions.HYPERMODEL not in self.instruction_readers:
      raise ValueError(
        f"FewShot.num_demonstrations is {list(self.num_demonstrations)}; it must "
        "be from 1 on where the hypermodel reads no instruction "
        "(FewShot.instruction_readers)"
      )


@dataclasses.dataclass(frozen=True)
class Episode:
  """Which rows meet: what an index stands for, before any token is read."""

  task: int
  demonstrations: np.ndarray  # rows of its pool, in the order they are joined
  targets: np.ndarray  # rows
  num_dropped: int  # demonstrations drawn that found no room


class Episodes:
  """All episodes of some tasks; index with any whole number from 0.

  Within an epoch of a task no row is a target twice. A demonstration never
  equals a target of its episode, as a row or as text (equal inputs), and is
  never cut: one that finds no room among the others is dropped, one too long
  to fit alone is never drawn. A task that could not give every episode a
  demonstration is left out, and named.

  Args:
    tasks: whose rows are targets.
    few_shot: what an episode is made of.
    lengths: of what the models read.
    seed: of all draws.
    pools: of each task, where demonstrations come from; by default itself.

  Raises:
    ValueError: a task has too few rows, or no task has demonstrations that fit.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    few_shot: FewShot,
    lengths: Lengths,
    seed: int = 0,
    pools: Sequence[Task] | None = None,
  ):
    if not tasks:
      raise ValueError("a mixture without tasks has no episodes")
    if not lengths.demonstrations:
      raise ValueError("TASK_FEATURE_LENGTHS lacks 'demonstrations'")
    self.few_shot, self.lengths, self.seed = few_shot, lengths, seed
    self.num_skipped = 0
    readers, room = few_shot.instruction_readers, lengths.demonstrations
    low, high = few_shot.num_demonstrations
    instructions.check_tasks(tasks, readers, low, lengths)
    joining.check_separate_rows(high, readers, lengths)
    for task, pool in zip(tasks, pools or tasks, strict=True):
      _check_rows(task, pool, few_shot)
    made = [
      _Pool(task, joining.Room.of(task, readers, lengths))
      for task in pools or tasks
    ]
    kept = _able(tasks, made, few_shot, room)
    self.tasks = [tasks[i] for i in kept]
    self.pools = [made[i].task for i in kept]
    self._pools = [made[i] for i in kept]
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)
    # Who asks for an episode's sizes asks for its ids soon after.
    self._drawn = functools.lru_cache(maxsize=4096)(self._draw_episode)

  def task_of(self, index: int) -> Task:
    """The task of an episode."""
    return self.tasks[self._order[index][0]]

  def __getitem__(self, index: int) -> Context:
    """The token ids of an episode, demonstrations joined."""
    episode = self.episode(index)
    pool = self._pools[episode.task]
    return Context(
      demonstrations=pool.room.place(pool.task, episode.demonstrations),
      **reading.read_rows(
        self.tasks[episode.task],
        episode.targets,
        self.lengths,
        self.few_shot.instruction_readers,
      ),
    )

  def sizes(self, index: int) -> Sizes:
    """Tokens of an episode, of which none is read."""
    episode = self.episode(index)
    pool = self._pools[episode.task]
    read, rows = pool.room.read_size(episode.demonstrations, pool.sizes)
    inputs, targets = reading.longest_rows(
      self.tasks[episode.task],
      episode.targets,
      self.lengths,
      self.few_shot.instruction_readers,
    )
    return Sizes(inputs, targets, read, rows)

  def instruction(self, task: int) -> np.ndarray:
    """What the hypermodel reads before the demonstrations of a task."""
    return self._pools[task].room.instruction

  def episode(self, index: int) -> Episode:
    """The rows of an episode."""
    return self._drawn(index)

  def _draw_episode(self, index: int) -> Episode:
    task, count = self._order[index]
    num_rows = len(self.tasks[task].rows)
    num_targets = self.few_shot.num_targets
    epoch, group = divmod(count, num_rows // num_targets)
    first = group * num_targets
    key = (self.seed, Stream.TARGETS, task, epoch)
    targets = np.asarray(
      [
        order.permuted_one(position, num_rows, *key)
        for position in range(first, first + num_targets)
      ]
    )
    demonstrations, dropped = self._draw(task, targets, count)
    return Episode(task, demonstrations, targets, dropped)

  def num_too_long(self, task: int) -> int:
    """How many rows of `self.tasks[task]` no demonstration is drawn from."""
    return self._pools[task].num_too_long

  def _draw(
    self, task: int, targets: np.ndarray, count: int
  ) -> tuple[np.ndarray, int]:
    """Rows other than the targets that fit together, and how many did not."""
    pool = self._pools[task]
    hashes = pool.task.rows.hashes
    generator = order.generator(self.seed, Stream.DEMONSTRATIONS, task, count)
    low, high = self.few_shot.num_demonstrations
    wanted = int(generator.integers(low, high + 1))
    taken: list[int] = []
    target_hashes = set(self.tasks[task].rows.hashes[targets].tolist())
    # A first look is nearly always long enough.
    for looked in (wanted + 2 * len(targets), len(pool)):
      ranks = generator.choice(len(pool), min(looked, len(pool)), replace=False)
      taken = [
        row
        for row in pool[ranks].tolist()
        if int(hashes[row]) not in target_hashes
      ][:wanted]
      if len(taken) == wanted:
        break
    return pool.room.keep_fitting(taken, pool.sizes)


class _Pool:
  """The rows of a task that have room as a demonstration; indexed by rank."""

  def __init__(self, task: Task, room: joining.Room):
    self.task, self.room = task, room
    self.sizes = joining.joined_lengths(task)
    fits = self.sizes <= self.room.num_ids
    self.num_too_long = int(len(fits) - fits.sum())
    # Where every row fits, which is usual, rank and row are the same.
    self._rows = None
    if self.num_too_long:
      few = len(fits) <= np.iinfo(np.int32).max
      self._rows = np.flatnonzero(fits).astype(np.int32 if few else np.int64)

  def __len__(self) -> int:
    return len(self.sizes) - self.num_too_long

  def __getitem__(self, ranks: np.ndarray) -> np.ndarray:
    return ranks if self._rows is None else self._rows[ranks]

  def always_gives(self, task: Task, num_targets: int) -> bool:
    """Whether a row is left that differs from any `num_targets` rows of `task`.

    So it is with one more differing row than there are targets.
    """
    hashes = self.task.rows.hashes
    for looked in (min(len(self), 64 * (num_targets + 1)), len(self)):
      if len(np.unique(hashes[self[np.arange(looked)]])) > num_targets:
        return True
    if self.task is task:
      return False
    own = hashes[self[np.arange(len(self))]]
    return not np.isin(own, task.rows.hashes).all()


def matched(
  tasks: Sequence[Task], others: Sequence[Task], where: str
) -> list[Task]:
  """The one of `others` with the name of each of `tasks`.

  Raises:
    ValueError: a task has none.
  """
  found = {task.name: task for task in others}
  lacking = [task.name for task in tasks if task.name not in found]
  if lacking:
    raise ValueError(
      f"{where}: no demonstrations for task {lacking[0]!r} (and "
      f"{len(lacking) - 1} more)"
    )
  return [found[task.name] for task in tasks]


def _check_rows(task: Task, pool: Task, few_shot: FewShot) -> None:
  for feature in (INPUTS, TARGETS):
    if feature not in task.rows.features:
      raise ValueError(
        f"task {task.name!r} has no feature {feature!r}: only text-to-text "
        f"tasks make episodes, its features are {task.rows.features}"
      )
  if len(task.rows) < few_shot.num_targets or not len(pool.rows):
    raise ValueError(
      f"task {task.name!r} has {len(task.rows)} rows in split {task.split!r} "
      f"and {len(pool.rows)} in split {pool.split!r}; an episode needs "
      f"{few_shot.num_targets} targets and a demonstration"
    )
  if pool is not task or not few_shot.num_demonstrations[1]:
    return
  needed = few_shot.num_targets + 1
  if len(task.rows) < needed:
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}, has {len(task.rows)} rows; "
      f"an episode needs {needed}: {few_shot.num_targets} targets and a "
      "demonstration"
    )
  hashes, count = task.rows.hashes, len(task.rows)
  if all(
    (hashes[first:last] == hashes[0]).all()
    for first, last in row_arrays.blocks(count)
  ):
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}: all {len(task.rows)} rows "
      "have the same input, so no demonstration differs from a target"
    )


def _able(
  tasks: Sequence[Task],
  pools: Sequence[_Pool],
  few_shot: FewShot,
  room: int,
) -> list[int]:
  """Tasks whose every episode finds a demonstration; the others are named.

  Where none are asked for, every task does.
  """
  if not few_shot.num_demonstrations[1]:
    return list(range(len(tasks)))
  needed = few_shot.num_targets + 1
  kept, left_out = [], []
  for i, (task, pool) in enumerate(zip(tasks, pools, strict=True)):
    is_able = pool.always_gives(task, few_shot.num_targets)
    (kept if is_able else left_out).append(i)
  if not kept:
    shortest = min(int(pool.sizes.min()) for pool in pools)
    raise ValueError(
      f"TASK_FEATURE_LENGTHS['demonstrations'] is {room}, which leaves no "
      f"room for a single demonstration: {needed} of a task must fit, and the "
      f"shortest of all has {shortest} tokens"
    )
  if left_out:
    _log.warning(
      "%d of %d tasks are left out: fewer than %d different demonstrations "
      "fit in %d tokens (TASK_FEATURE_LENGTHS['demonstrations']): %s",
      len(left_out),
      len(tasks),
      needed,
      room,
      ", ".join(tasks[i].name for i in left_out),
    )
  num_long = sum(pools[i].num_too_long for i in kept)
  if num_long:
    total = sum(len(tasks[i].rows) for i in kept)
    _log.info(
      "%d of %d rows are too long for a demonstration of %d tokens; they are "
      "targets only",
      num_long,
      total,
      room,
    )
  return kept
