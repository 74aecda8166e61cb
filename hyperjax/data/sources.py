"""What a run trains on: tasks, lengths, and how contexts are made of them.

These are descriptions for gin. `open(seed)` reads what they describe.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import numpy as np

from hyperjax import checks, sharding
from hyperjax.batch import FeatureLengths, Lengths
from hyperjax.data import (
  beside,
  episodes,
  feed,
  instructions,
  pairs,
  relabelling,
  text,
)
from hyperjax.data.store.store import Task


class TaskSet(Protocol):
  """Stored tasks: `mixtures.StoredTasks`, `seqio_store.SeqioTasks`."""

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
  from. `unrelated` are texts, or rows of other tasks, one beside each episode, on
  which adapters are to change nothing (`HyperTuning.do_no_harm`). The rest is as in
  `episodes.FewShot`.
  """

  tasks: TaskSet
  feature_lengths: FeatureLengths
  num_demonstrations: episodes.NumDemonstrations = (1, 16)
  num_targets: checks.Count = 1
  demonstrations: TaskSet | None = None
  instruction_readers: instructions.Readers = ()
  relabel: checks.Share = 0.0
  relabel_with: relabelling.Kinds = relabelling.KINDS
  unrelated: beside.Text | None = None

  def __post_init__(self):
    checks.fields(self)
    if self.unrelated is not None:
      beside.check("FewShotEpisodes.unrelated", self.unrelated)
    assert self.few_shot  # which says how its parts go together

  @property
  def rows_per_context(self) -> int:
    return self.num_targets

  @property
  def few_shot(self) -> episodes.FewShot:
    """What an episode is made of."""
    return episodes.FewShot(
      self.num_demonstrations,
      self.num_targets,
      self.instruction_readers,
      self.relabel,
      self.relabel_with,
    )

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
      self.few_shot,
      Lengths.from_features(self.feature_lengths),
      seed,
      pools,
      beside.opened(self.unrelated, tasks, seed),
    )


@dataclasses.dataclass(frozen=True)
class CaclmWindows:
  """Hyperpretraining: parts A, B, C, D of windows of text."""

  tasks: TaskSet
  feature_lengths: FeatureLengths
  cut: text.CaclmLengths = text.CaclmLengths()
  min_length: checks.Count | None = None

  rows_per_context = 1

  def __post_init__(self):
    checks.fields(self)

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
  feature_lengths: FeatureLengths
  # One token to read and one to predict.
  min_length: Annotated[int, checks.Whole(2)] = 16

  rows_per_context = 1

  def __post_init__(self):
    checks.fields(self)

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
  feature_lengths: FeatureLengths

  rows_per_context = 1

  def __post_init__(self):
    checks.fields(self)

  def open(self, seed: int) -> pairs.Pairs:
    return pairs.Pairs(
      self.tasks.open(), Lengths.from_features(self.feature_lengths), seed
    )


@dataclasses.dataclass(frozen=True)
class TasksSideBySide:
  """Fine-tuning an adapter for each of some tasks, all in one batch.

  Attributes:
    tasks: the rows to train on.
    feature_lengths: "demonstrations" among them where a hypermodel writes the
      initial values.
    num_tasks: how many are trained, evenly spaced.
    batch_size: rows of all tasks in a batch, as many of each.
    max_rows: rows of each task that are used, drawn by the seed; None for all.
    num_demonstrations: of these, how many a hypermodel writes from at most.
    instruction_readers: as in `episodes.FewShot`.
  """

  tasks: TaskSet
  feature_lengths: FeatureLengths
  num_tasks: checks.Count
  batch_size: checks.Count
  max_rows: checks.Count | None = None
  num_demonstrations: checks.Count = 16
  instruction_readers: instructions.Readers = ()

  def __post_init__(self):
    checks.fields(self)
    if self.batch_size % self.num_tasks:
      raise ValueError(
        f"BATCH_SIZE is {self.batch_size} rows; it must be a multiple of the "
        f"{self.num_tasks} tasks that share it (NUM_TASKS)"
      )

  @property
  def rows_per_context(self) -> int:
    return self.batch_size // self.num_tasks

  def open(self, seed: int) -> pairs.SideBySide:
    return pairs.SideBySide(
      self.chosen(),
      Lengths.from_features(self.feature_lengths),
      pairs.PerTask(
        self.rows_per_context,
        self.max_rows,
        self.num_demonstrations,
        self.instruction_readers,
      ),
      seed,
    )

  def chosen(self) -> list[Task]:
    """The tasks that are trained, in the order of a batch.

    Raises:
      ValueError: there are fewer.
    """
    opened = self.tasks.open()
    if len(opened) < self.num_tasks:
      raise ValueError(
        f"NUM_TASKS is {self.num_tasks}; {self.tasks.mixture_or_task}, split "
        f"{self.tasks.split!r}, has {len(opened)} tasks"
      )
    return evenly_spaced(opened, self.num_tasks)


def evenly_spaced(tasks: Sequence[Task], count: int | None) -> list[Task]:
  """At most `count` of the tasks, None for all."""
  if count is None or count >= len(tasks):
    return list(tasks)
  picked = np.linspace(0, len(tasks) - 1, count).round().astype(int)
  return [tasks[i] for i in picked]


def task_sets(data: Data) -> list[TaskSet]:
  """Everything whose tokens some training data reads."""
  found = [data.tasks, getattr(data, "demonstrations", None)]
  text_beside = getattr(data, "unrelated", None)
  if text_beside is not None:
    found.append(text_beside.tasks)
  return [each for each in found if each is not None]


def lengths(data: Data) -> Lengths:
  """What the features of data are padded to, known before it is opened.

  Raises:
    ValueError: it does not say.
  """
  given = getattr(data, "feature_lengths", None)
  if given is None:
    raise ValueError(f"{type(data).__name__} does not say TASK_FEATURE_LENGTHS")
  return Lengths.from_features(given)


def num_microbatches(
  data: Data,
  num_contexts: int,
  data_parallel: int,
  most_tokens: int,
  are_joined: bool = False,
) -> int:
  """The fewest equal parts of which each device holds at most `most_tokens`.

  Padding is counted. Where not even one context for each device has so few, there
  is one for each; of tasks side by side one row of each. `are_joined` as of
  `Lengths.tokens`.
  """
  padded, rows = lengths(data), data.rows_per_context
  own = num_contexts // data_parallel  # of a device
  if getattr(data, "num_tasks", 1) > 1:
    tokens, own = own * (padded.inputs + padded.targets), rows
  else:
    tokens = padded.tokens(rows, are_joined)
  fit = [n for n in sharding.divisors(own) if own // n * tokens <= most_tokens]
  return min(fit, default=max(1, own))


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


def check_room(data: Any, problem: Any) -> None:
  """Refuses demonstrations longer than the adapters that are written of them hold.

  Args:
    data: of a run or an evaluation, which may say its `feature_lengths`.
    problem: what reads them.

  Raises:
    ValueError: names both settings.
  """
  given = getattr(data, "feature_lengths", None)
  spec = getattr(problem, "adapters", None)
  if given is None or spec is None or not problem.reads_demonstrations:
    return
  read = Lengths.from_features(given).read_tokens
  if not spec.has_room(read):
    raise ValueError(
      f"TASK_FEATURE_LENGTHS has {read} tokens of demonstrations; adapters are a "
      f"{spec.label}: set MemorySpec.length to {read} or more"
    )


def check_tasks(tasks: Sequence[Task], problem: Any) -> None:
  """Refuses a tokenizer with more ids than the embedding has rows, or another end.

  Such a tokenizer is another model's: its ids would be read as others.
  """
  rows = problem.backbone.vocab_size
  for task in tasks:
    own = None if task.vocabulary is None else task.vocabulary.eos_id
    if own is not None and own not in problem.backbone.eos_ids:
      raise ValueError(
        f"task {task.name!r}: its texts end with {own}, while "
        f"T5Config.eos_ids is {tuple(problem.backbone.eos_ids)!r}"
      )
    if task.vocabulary is not None and task.vocabulary.size > rows:
      raise ValueError(
        f"task {task.name!r}: its vocabulary has {task.vocabulary.size} ids, "
        f"T5Config.vocab_size is {rows}"
      )
