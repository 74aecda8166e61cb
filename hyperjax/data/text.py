"""Windows of stored text by index: CACLM and prefix language modelling.

Documents are stored rows with one feature. Their tokens lie end to end;
a window begins at every multiple of its length, shifted anew each epoch, and is
moved inside the document it begins in. Which window comes when is a random
permutation by index, so a position in the data is one integer and a store of
any size is opened at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from hyperjax import checks
from hyperjax.batch import Context, Lengths
from hyperjax.data import order
from hyperjax.data.order import Stream
from hyperjax.data.store.store import Task

TEXT = "targets"  # seqio's name of the feature of plain text tasks
_MAX_DRAWS = 10_000
_Side = Annotated[int, checks.Whole(0, checks.MAX_LENGTH)]


@dataclasses.dataclass(frozen=True)
class CaclmLengths:
  """How a window is cut: A and D are read by the hypermodel, B by the backbone,
  which then predicts C (Phang et al., 2022, section 3.2).

  512 tokens in all and a short B of 32 are likely the paper's; how the others
  share the rest is not known.
  """

  before: _Side = 176  # A
  prompt: checks.Length = 32  # B
  continuation: checks.Length = 128  # C
  after: _Side = 176  # D

  def __post_init__(self):
    checks.fields(self)
    if not self.before + self.after:
      raise ValueError(
        "CaclmLengths.before and .after are both 0: nothing is left for the "
        "hypermodel to read"
      )

  @property
  def total(self) -> int:
    return self.before + self.prompt + self.continuation + self.after


class Windows:
  """Documents' windows by index; subclasses make a context of one."""

  def __init__(
    self,
    tasks: Sequence[Task],
    size: int,
    min_length: int,
    seed: int,
  ):
    self.tasks, self._seed = list(tasks), seed
    self.size, self._min_length = size, min(min_length, size)
    self.num_skipped = 0
    for task in self.tasks:
      if tuple(task.rows.features) != (TEXT,):
        raise ValueError(
          f"task {task.name!r} has the features {task.rows.features}: windows "
          f"are cut from plain text, tasks with {TEXT!r} alone"
        )
      longest = task.rows.longest(TEXT)
      if longest < self._min_length:
        raise ValueError(
          f"task {task.name!r}: its longest document has {longest} tokens; "
          f"a window needs {self._min_length}"
        )
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)

  def task_of(self, index: int) -> Task:
    """The task of a window."""
    return self.tasks[self._order[index][0]]

  def window(self, index: int) -> tuple[Task, np.ndarray]:
    """The task and the token ids of one window.

    Where it would begin in a document that is too short, another is drawn.

    Raises:
      ValueError: nearly all documents are too short.
    """
    which, count = self._order[index]
    task = self.tasks[which]
    slots = -(-len(task.rows.tokens) // self.size)
    epoch, slot = divmod(count, slots)
    for draw in range(_MAX_DRAWS):
      if draw:
        again = order.generator(
          self._seed, Stream.WINDOWS_AGAIN, which, count, draw
        )
        slot = int(again.integers(slots))
      key = (self._seed, Stream.WINDOWS, which, epoch)
      position = order.permuted_one(slot, slots, *key)
      shift = order.generator(
        self._seed, Stream.WINDOW_SHIFTS, which, epoch
      ).integers(self.size)
      begin = min(position * self.size + int(shift), len(task.rows.tokens) - 1)
      ids = self._inside(task, begin)
      if len(ids) >= self._min_length:
        return task, ids
      self.num_skipped += 1
    raise ValueError(
      f"task {task.name!r}: {_MAX_DRAWS} windows in turn fell in documents "
      f"of fewer than {self._min_length} tokens"
    )

  def _inside(self, task: Task, begin: int) -> np.ndarray:
    """A window of one document around position `begin` of all tokens."""
    start, end = task.rows.span(begin)
    if task.eos_id is not None and task.rows.tokens[end - 1] == task.eos_id:
      end -= 1
    begin = max(start, min(begin, end - self.size))
    ids = task.rows.tokens[begin : min(end, begin + self.size)]
    return np.asarray(ids, np.int32)


class Caclm(Windows):
  """Context-augmented conditional language modelling, hyperpretraining's task.

  A document shorter than a window but not than `min_length` makes one window
  whose parts are shortened alike.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    cut: CaclmLengths,
    lengths: Lengths,
    seed: int = 0,
    min_length: int | None = None,
  ):
    # Two separators follow A and D; C is a continuation, without any.
    sides = max(cut.before, cut.after) + 1
    if not lengths.are_separate:
      sides = cut.before + cut.after + 2
    elif lengths.num_demonstrations < 2:
      raise ValueError(
        "TASK_FEATURE_LENGTHS['num_demonstrations'] is 1: A and D of a window "
        "are encoded separately, which takes 2"
      )
    needed = {
      "demonstrations": sides,
      "inputs": cut.prompt,
      "targets": cut.continuation,
    }
    for name, least in needed.items():
      if getattr(lengths, name) < least:
        raise ValueError(
          f"TASK_FEATURE_LENGTHS[{name!r}] is {getattr(lengths, name)}, too "
          f"short for CACLM's parts {cut}: it takes {least}"
        )
    least = cut.total if min_length is None else min(min_length, cut.total)
    _, b, c, _ = cut_window(np.zeros(least), cut)
    if not len(b) or not len(c):
      raise ValueError(
        f"CaclmWindows.min_length is {min_length}: a window so short leaves "
        f"nothing of B or of C in {cut}"
      )
    super().__init__(tasks, cut.total, least, seed)
    self.lengths = lengths
    self._cut = cut

  def __getitem__(self, index: int) -> Context:
    task, (a, b, c, d) = self.parts(index)
    separator = [1 if task.eos_id is None else task.eos_id]
    sides = [np.append(a, separator), np.append(d, separator)]
    are_separate = self.lengths.are_separate
    return Context(
      demonstrations=sides if are_separate else np.concatenate(sides),
      inputs=[b],
      targets=[c],
    )

  def parts(self, index: int) -> tuple[Task, tuple[np.ndarray, ...]]:
    """The task of a window, and the ids of its A, B, C and D."""
    task, ids = self.window(index)
    return task, cut_window(ids, self._cut)


def cut_window(
  ids: np.ndarray, cut: CaclmLengths
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """A, B, C and D of a window; a short window's parts keep their proportions."""
  parts = np.array([cut.before, cut.prompt, cut.continuation, cut.after])
  ends = np.cumsum(parts) * len(ids) // cut.total
  a, b, c, d = np.split(ids[: ends[-1]], ends[:-1])
  return a, b, c, d


class PrefixLm(Windows):
  """Prefix language modelling: the rest of a window from its beginning.

  How T5 1.1 was adapted to language modelling (Lester et al., 2021). Where a
  window is cut is drawn evenly, so that prompts of every length are met.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    lengths: Lengths,
    seed: int = 0,
    min_length: int = 16,
  ):
    if min_length < 2:
      raise ValueError(
        "PrefixLmWindows.min_length must be at least 2, one token to read and "
        f"one to predict; got {min_length}"
      )
    super().__init__(tasks, lengths.inputs + lengths.targets, min_length, seed)
    self.lengths = lengths

  def __getitem__(self, index: int) -> Context:
    _, ids = self.window(index)
    most = min(self.lengths.inputs, len(ids) - 1)
    draw = order.generator(self._seed, Stream.PREFIX_LENGTHS, index)
    cut = 1 + int(draw.integers(most))
    return Context(
      inputs=[ids[:cut]], targets=[ids[cut : cut + self.lengths.targets]]
    )
