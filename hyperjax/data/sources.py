"""What a run trains on: tasks, lengths, and how contexts are made of them.

These are descriptions for gin. `open(seed)` reads what they describe.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hyperjax.batch import Lengths
from hyperjax.data import episodes, feed, pairs, text
from hyperjax.data.store import Task


class TaskSet(Protocol):
  """Stored tasks: `store.StoredTasks`, `seqio_store.SeqioTasks`."""

  @property
  def mixture_or_task(self) -> str: ...

  @property
  def split(self) -> str: ...

  def open(self) -> list[Task]: ...


class Data(Protocol):
  """A description of training data."""

  @property
  def tasks(self) -> TaskSet: ...

  @property
  def rows_per_context(self) -> int:
    """G."""
    ...

  def open(self, seed: int) -> feed.Source: ...


@dataclasses.dataclass(frozen=True)
class FewShotEpisodes:
  """Multi-task fine-tuning: demonstrations, then other rows of the same task.

  `demonstrations`, where given, is another split of the same tasks to draw them
  from. The rest is as in `episodes.FewShot`.
  """

  tasks: TaskSet
  feature_lengths: Mapping[str, int]
  num_demonstrations: Sequence[int] = (1, 16)
  num_targets: int = 1
  demonstrations: TaskSet | None = None
  instruction_readers: Sequence[str] = ()

  @property
  def rows_per_context(self) -> int:
    return self.num_targets

  def open(self, seed: int) -> episodes.Episodes:
    tasks, pools = self.tasks.open(), None
    if self.demonstrations is not None:
      pools = episodes.matched(
        tasks,
        self.demonstrations.open(),
        f"FewShotEpisodes.demonstrations, split {self.demonstrations.split!r}",
      )
    return episodes.Episodes(
      tasks,
      episodes.FewShot(
        self.num_demonstrations, self.num_targets, self.instruction_readers
      ),
      Lengths.from_features(self.feature_lengths),
      seed,
      pools,
    )


@dataclasses.dataclass(frozen=True)
class CaclmWindows:
  """Hyperpretraining: parts A, B, C, D of windows of text."""

  tasks: TaskSet
  feature_lengths: Mapping[str, int]
  cut: text.CaclmLengths = text.CaclmLengths()
  min_length: int | None = None

  rows_per_context = 1

  def open(self, seed: int) -> text.Caclm:
    return text.Caclm(
      self.tasks.open(),
      self.cut,
      Lengths.from_features(self.feature_lengths),
      seed,
      self.min_length,
    )


@dataclasses.dataclass(frozen=True)
class PrefixLmWindows:
  """Pretraining a backbone on text: the rest of a window from its beginning."""

  tasks: TaskSet
  feature_lengths: Mapping[str, int]
  min_length: int = 16

  rows_per_context = 1

  def open(self, seed: int) -> text.PrefixLm:
    return text.PrefixLm(
      self.tasks.open(),
      Lengths.from_features(self.feature_lengths),
      seed,
      self.min_length,
    )


@dataclasses.dataclass(frozen=True)
class TextPairs:
  """Pretraining a backbone on text-to-text rows without demonstrations."""

  tasks: TaskSet
  feature_lengths: Mapping[str, int]

  rows_per_context = 1

  def open(self, seed: int) -> pairs.Pairs:
    return pairs.Pairs(
      self.tasks.open(), Lengths.from_features(self.feature_lengths), seed
    )


def task_sets(data: Data) -> list[TaskSet]:
  """Everything whose tokens some training data reads."""
  demonstrations = getattr(data, "demonstrations", None)
  return [data.tasks, *([] if demonstrations is None else [demonstrations])]


def num_contexts(batch_size: int, rows_per_context: int, setting: str) -> int:
  """Contexts in a batch of so many rows.

  Raises:
    ValueError: rows are left over.
  """
  if batch_size % rows_per_context:
    raise ValueError(
      f"{setting} is {batch_size} rows; it must be a multiple of the "
      f"{rows_per_context} targets of a context"
    )
  return batch_size // rows_per_context


def check_tasks(tasks: Sequence[Task], problem: Any) -> None:
  """Refuses a tokenizer with more ids than the embedding has rows.

  Such a tokenizer is another model's: its ids would be read as others.
  """
  rows = problem.backbone.vocab_size
  for task in tasks:
    if task.vocabulary is not None and task.vocabulary.size > rows:
      raise ValueError(
        f"task {task.name!r}: its vocabulary has {task.vocabulary.size} ids, "
        f"T5Config.vocab_size is {rows}"
      )
