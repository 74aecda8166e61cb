"""Few-shot episodes by index over stored tokens.

Episode i is a pure function of (seed, i): its task by rate, its targets by that
task's permutation, its demonstrations drawn from the rest. So a position in the
data is one integer, whatever the number of hosts, and any episode can be looked
at without those before it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from hyperjax import checks
from hyperjax.batch import Beside, Context, Lengths, Sizes
from hyperjax.data import (
  demonstration_pools,
  feed,
  instructions,
  joining,
  order,
  reading,
  relabelling,
)
from hyperjax.data.demonstration_pools import Pool
from hyperjax.data.order import Stream
from hyperjax.data.relabelling import Relabelling
from hyperjax.data.store.store import Task

ANY_NUMBER = "any_number"  # of demonstrations: from 1 to what has room
NumDemonstrations = (
  Annotated[Sequence[int], checks.Span(0, checks.MAX_LENGTH)]
  | Annotated[str, checks.OneOf((ANY_NUMBER,))]
)


@dataclasses.dataclass(frozen=True)
class FewShot:
  """What an episode is made of.

  `num_demonstrations` is drawn evenly from `[low, high]` for each episode, so
  that a model trained for many also meets few; it may be 0 where the hypermodel
  reads an instruction. With "any_number" it is from 1 to about as many as have
  room. `num_targets` rows (G) share one context. `instruction_readers` are those
  of `instructions.READERS` that read the task's. In a share `relabel` of the
  episodes of tasks with few different outputs these are replaced, in the ways of
  `relabel_with`, and no instruction is read.
  """

  num_demonstrations: NumDemonstrations = (1, 16)
  num_targets: checks.Count = 1
  instruction_readers: instructions.Readers = ()
  relabel: checks.Share = 0.0
  relabel_with: relabelling.Kinds = relabelling.KINDS

  def __post_init__(self):
    checks.fields(self)
    low = self.least
    if low < 1 and instructions.HYPERMODEL not in self.instruction_readers:
      raise ValueError(
        f"FewShot.num_demonstrations is {list(self.num_demonstrations)}; it must "
        "be from 1 on where the hypermodel reads no instruction "
        "(FewShot.instruction_readers)"
      )

  @property
  def least(self) -> int:
    """Demonstrations of an episode, before any is dropped."""
    return 1 if self._is_open else int(self.num_demonstrations[0])

  def most(self, pool: Pool) -> int:
    """Demonstrations of an episode at most."""
    if self._is_open:
      return pool.num_fitting
    return int(self.num_demonstrations[1])

  @property
  def are_shown(self) -> bool:
    """Whether there are demonstrations at all."""
    return self._is_open or int(self.num_demonstrations[1]) > 0

  @property
  def _is_open(self) -> bool:
    return self.num_demonstrations == ANY_NUMBER


@dataclasses.dataclass(frozen=True)
class Episode:
  """Which rows meet: what an index stands for, before any token is read."""

  task: int
  demonstrations: np.ndarray  # rows of its pool, in the order they are joined
  targets: np.ndarray  # rows
  num_dropped: int  # demonstrations drawn that found no room
  relabelling: Relabelling | None = None  # what their outputs are replaced by


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
    unrelated: texts that stand beside the episodes; episode i has text i.

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
    unrelated: feed.Contexts | None = None,
  ):
    if not tasks:
      raise ValueError("a mixture without tasks has no episodes")
    if not lengths.demonstrations:
      raise ValueError("TASK_FEATURE_LENGTHS lacks 'demonstrations'")
    self.few_shot, self.lengths, self.seed = few_shot, lengths, seed
    self.num_skipped, self.unrelated = 0, unrelated
    readers, are_shown = few_shot.instruction_readers, few_shot.are_shown
    instructions.check_tasks(tasks, readers, few_shot.least, lengths)
    for task, pool in zip(tasks, pools or tasks, strict=True):
      demonstration_pools.check_rows(
        task, pool, few_shot.num_targets, are_shown
      )
    made = [
      Pool(task, joining.Room.of(task, readers, lengths))
      for task in pools or tasks
    ]
    most = [few_shot.most(pool) for pool in made]
    joining.check_separate_rows(max(most), readers, lengths)
    kept: Sequence[int] = range(len(tasks))
    if are_shown:
      room = lengths.demonstrations
      kept = demonstration_pools.able(tasks, made, few_shot.num_targets, room)
    self.tasks = [tasks[i] for i in kept]
    self.pools = [made[i].task for i in kept]
    self._pools, self._most = [made[i] for i in kept], [most[i] for i in kept]
    self._labels = None
    if few_shot.relabel and are_shown:
      self._labels = relabelling.Labels(
        self.tasks, self.pools, lengths, few_shot.relabel_with
      )
      self._labels.tell(few_shot.relabel)
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)
    # Who asks for an episode's sizes asks for its ids soon after.
    self._drawn = functools.lru_cache(maxsize=4096)(self._draw_episode)

  def task_of(self, index: int) -> Task:
    """The task of an episode."""
    return self.tasks[self._order[index][0]]

  def __getitem__(self, index: int) -> Context:
    """The token ids of an episode, demonstrations joined."""
    episode = self.episode(index)
    task, pool, room = self.read_as(episode)
    return Context(
      demonstrations=room.place(pool, episode.demonstrations),
      unrelated=self._text(index),
      **reading.read_rows(
        task,
        episode.targets,
        self.lengths,
        self.few_shot.instruction_readers,
      ),
    )

  def sizes(self, index: int) -> Sizes:
    """Tokens of an episode, of which none is read.

    Where its labels are replaced there may be fewer.
    """
    episode = self.episode(index)
    task, _, room = self.read_as(episode)
    read, rows = room.read_size(
      np.arange(len(episode.demonstrations)),
      self._sizes(episode, episode.demonstrations),
    )
    inputs, targets = reading.longest_rows(
      task,
      episode.targets,
      self.lengths,
      self.few_shot.instruction_readers,
    )
    return Sizes(inputs, targets, read, rows)

  def read_as(self, episode: Episode) -> tuple[Task, Task, joining.Room]:
    """The task and its pool as an episode shows them, and the room for these."""
    task, pool = self.tasks[episode.task], self._pools[episode.task]
    if episode.relabelling is None:
      return task, pool.task, pool.room
    task, shown = map(episode.relabelling.task, (task, pool.task))
    return task, shown, joining.Room.of(shown, (), self.lengths)

  def _text(self, index: int) -> Beside | None:
    if self.unrelated is None:
      return None
    found = self.unrelated[index]
    return Beside(found.inputs[0], found.targets[0], self.unrelated.lengths)

  def instruction(self, episode: Episode) -> np.ndarray:
    """What the hypermodel reads before an episode's demonstrations."""
    return self.read_as(episode)[2].instruction

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
    wanted = self._draw(task, targets, count)
    drawn = Episode(task, np.asarray(wanted, np.int64), targets, 0)
    relabelled = self._relabelled(drawn, index)
    return relabelled or self._fitting(drawn)

  def num_too_long(self, task: int) -> int:
    """How many rows of `self.tasks[task]` no demonstration is drawn from."""
    return self._pools[task].num_too_long

  def _draw(self, task: int, targets: np.ndarray, count: int) -> list[int]:
    """Rows other than the targets, whether or not they fit together."""
    pool = self._pools[task]
    hashes = pool.task.rows.hashes
    generator = order.generator(self.seed, Stream.DEMONSTRATIONS, task, count)
    low, high = self.few_shot.least, self._most[task]
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
    return taken

  def _relabelled(self, drawn: Episode, index: int) -> Episode | None:
    """An episode with its labels replaced; None where they are not to be."""
    if self._labels is None:
      return None
    generator = order.generator(self.seed, Stream.RELABELLED, index)
    if generator.random() >= self.few_shot.relabel:
      return None
    found = self._labels.draw(drawn.task, generator)
    if found is None:
      return None
    fitting = self._fitting(dataclasses.replace(drawn, relabelling=found))
    # Of labels that nothing shows nothing could be learnt.
    return fitting if len(fitting.demonstrations) else None

  def _fitting(self, drawn: Episode) -> Episode:
    """An episode without the demonstrations that do not fit together."""
    rows = drawn.demonstrations
    _, _, room = self.read_as(drawn)
    kept, dropped = room.keep_fitting(
      range(len(rows)), self._sizes(drawn, rows)
    )
    return dataclasses.replace(
      drawn, demonstrations=rows[kept], num_dropped=dropped
    )

  def _sizes(self, episode: Episode, rows: np.ndarray) -> np.ndarray:
    """Ids of rows as an episode's demonstrations, at most."""
    pool = self._pools[episode.task]
    own = pool.sizes[rows]
    if episode.relabelling is None:
      return own
    longest = episode.relabelling.longest
    outputs = [pool.task.rows.length(row, joining.TARGETS) for row in rows]
    return own + np.maximum(longest - np.asarray(outputs, own.dtype), 0)


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
