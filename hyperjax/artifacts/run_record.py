"""What a run is: which problem, for which T5, on which data, trained how.

It gives the arrays of a run's checkpoints their meaning, and the run's folder is
used by it alone: later stages, evaluation, `adapt`, `predict` and the report need
no gin files. A run has one record, `run.json` (`run_file`), for all of its
checkpoints. Nothing here imports jax.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.artifacts import typed_json
from hyperjax.artifacts.typed_json import Tagged

# The kinds of problem and of data that a record is asked about, by the names of
# their classes; others may be recorded too. `config_json` makes the classes.
_LANGUAGE_MODEL, _FULL_FINE_TUNING = "LanguageModel", "FullFineTuning"
_HYPER_TUNING, _ADAPTER_FINE_TUNING = "HyperTuning", "AdapterFineTuning"
_CACLM = "CaclmWindows"


@dataclasses.dataclass(frozen=True)
class ProblemRecord(Tagged):
  """What is trained: a problem of `models.problems`, as data.

  `fields` may lack what is not known, as in a result whose run is gone.
  """

  def is_like(self, other: "ProblemRecord") -> bool:
    """Whether both are of one class."""
    return self.kind == other.kind

  @property
  def trains_t5_alone(self) -> bool:
    """Whether the T5 is all that is trained."""
    return self.kind in (_LANGUAGE_MODEL, _FULL_FINE_TUNING)

  @property
  def trains_t5(self) -> bool:
    """Whether the T5 that answers is among what is trained."""
    return self.trains_t5_alone or self.trains_jointly

  @property
  def trains_jointly(self) -> bool:
    """Whether the T5 is trained with the hypermodel that writes for it."""
    return bool(self.fields.get("train_backbone", False))

  @property
  def fine_tunes_t5(self) -> bool:
    """Whether a T5 alone is trained, on tasks rather than from scratch."""
    return self.kind == _FULL_FINE_TUNING

  @property
  def writes_adapters(self) -> bool:
    """Whether a hypermodel is trained."""
    return self.kind == _HYPER_TUNING

  @property
  def trains_adapters(self) -> bool:
    """Whether adapters themselves are trained."""
    return self.kind == _ADAPTER_FINE_TUNING

  @property
  def num_tasks(self) -> int:
    """How many have an adapter of their own; 1 where one serves all."""
    return self.fields.get("num_tasks", 1)

  @property
  def reads_demonstrations(self) -> bool | None:
    """Whether a T5 that is trained reads them in its input; None if unknown."""
    return self.fields.get("reads_demonstrations")

  @property
  def adapters(self) -> Tagged | None:
    """Which adapters there are, a kind of `adapters.SPECS`."""
    return self.fields.get("adapters")


@dataclasses.dataclass(frozen=True)
class BackboneRef:
  """A T5 by the hash of its weights, and where it was found."""

  identity: str
  source: str
  step: int | None = None  # of the run that trained it, where one did


@dataclasses.dataclass(frozen=True)
class TokenizerRef:
  """A tokenizer, as `vocabulary.Vocabulary.description` tells it."""

  kind: str
  identity: str | None = None  # of one that text can be read with
  path: str | None = None
  extra_ids: int = 0
  size: int | None = None
  name: str | None = None  # of one of seqio's
  added: Mapping[str, int] | None = None  # tokens on top, by their texts
  special: Sequence[str] | None = None  # of those, what decoded text leaves out

  @classmethod
  def of(cls, description: Mapping[str, Any]) -> "TokenizerRef":
    """As the tokenizer describes itself."""
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{x: description[x] for x in names if x in description})

  @property
  def is_readable(self) -> bool:
    """Whether text can be read with it."""
    return self.kind in ("sentencepiece", "tokenizer_json", "bytes")

  @property
  def description(self) -> dict[str, Any]:
    """What it was made of."""
    found = dataclasses.asdict(self)
    if self.is_readable:
      del found["name"]
      unsaid = [x for x in ("added", "special") if not found[x]]
      if self.kind != "sentencepiece":
        unsaid += ["extra_ids"] if self.kind == "tokenizer_json" else ["path"]
      return {name: x for name, x in found.items() if name not in unsaid}
    return {name: found[name] for name in ("kind", "name", "size")}


@dataclasses.dataclass(frozen=True)
class Reads:
  """What text must become for a trained model.

  Attributes:
    tokenizer: of the tasks; None where they have none or several.
    lengths: tokens at most of each feature, by t5x's names. With
      "num_demonstrations" each is encoded separately, in a row of its own.
    instruction_readers: which models read a task's, of `instructions.READERS`.
    instructions: of tasks side by side, by name, ids of those that the T5 reads.
  """

  tokenizer: TokenizerRef | None
  lengths: Mapping[str, int]
  instruction_readers: tuple[str, ...] = ()
  instructions: Mapping[str, tuple[int, ...]] | None = None

  @property
  def features(self) -> dict[str, int]:
    """`lengths` as TASK_FEATURE_LENGTHS: without features that there are not."""
    return {name: length for name, length in self.lengths.items() if length}


@dataclasses.dataclass(frozen=True)
class TaskShare:
  """A task that is trained on; an earlier version says no more than its name."""

  name: str
  rate: float | None = None
  rows: int | None = None


@dataclasses.dataclass(frozen=True)
class DataRecord:
  """What gives a position in the data its meaning; None where it is not known.

  Attributes:
    seed: of all draws.
    rows_per_context: targets that share a context.
    kind: the class of the data, one of `data.sources` or another.
    mixture: or the task.
    split: of it.
    is_side_by_side: whether each task has a context of its own in each batch.
    window: tokens of a window of text.
    settings: the other fields of the data.
    tasks: in their order.
    unrelated: tasks of the text beside them, where there is some.
  """

  seed: int
  rows_per_context: int
  kind: str | None = None
  mixture: str | None = None
  split: str | None = None
  is_side_by_side: bool = False
  window: int | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tasks: tuple[TaskShare, ...] | None = None
  unrelated: tuple[TaskShare, ...] | None = None

  @property
  def is_hyperpretraining(self) -> bool:
    """Whether a hypermodel reads windows of text."""
    return self.kind == _CACLM


@dataclasses.dataclass(frozen=True)
class BucketRecord:
  """A shape of a microbatch: its contexts, and what features are padded to."""

  contexts: int
  inputs: int
  targets: int
  demonstrations: int = 0
  num_demonstrations: int = 0


@dataclasses.dataclass(frozen=True)
class Training:
  """How parameters are updated; an earlier version does not say all of it.

  Attributes:
    buckets: how a batch is shared out to microbatches; None where it is padded.
    shapes: of these microbatches; None until the data is opened.
  """

  steps: int
  batch_size: int
  optimizer: Tagged | None = None
  mesh: Tagged | None = None
  num_microbatches: int = 1
  buckets: Tagged | None = None
  shapes: tuple[BucketRecord, ...] | None = None


@dataclasses.dataclass(frozen=True)
class RunStep:
  """A run at one of its checkpoints."""

  run: str
  step: int


@dataclasses.dataclass(frozen=True)
class FolderRef:
  """An adapter folder, and where what is in it came from."""

  folder: str
  arrays_sha256: str
  origin: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class InitialValues:
  """What adapters that are trained themselves began with: one of these."""

  random_seed: int | None = None
  shared_adapter: RunStep | None = None
  hypermodel: RunStep | None = None  # wrote them
  adapter: FolderRef | None = None

  @property
  def given(self) -> dict[str, Any]:
    """The one of them, as JSON."""
    found = typed_json.dump(self)
    return {name: own for name, own in found.items() if own is not None}


@dataclasses.dataclass(frozen=True)
class Merged:
  """Of a T5 with an adapter inside its weights: what it was made of."""

  backbone: BackboneRef
  adapter: str  # its identity


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """A run.

  Attributes:
    problem: what it trains.
    backbone: the T5 that it began with, or has frozen; None for a random one.
    reads: how text is read; None where an earlier version wrote it, or nothing
      was read.
    training: how it was trained; None where an earlier version wrote it, or it
      was not.
    initial_checkpoint: where all else came from; None for random values.
    initial_values: of adapters that are trained themselves.
    assignment_map: which parameters of `initial_checkpoint` it began with, where
      not with their namesakes: see `assignment`.
    hypermodel_checkpoint: the T5 that a hypermodel began as, where that was not
      its backbone.
    teacher: the T5 whose answers a hypermodel learns, where that is not its
      backbone.
    merged: of a T5 that `hyperjax export` wrote, which was not trained here.
    folder: where the run was then.
    versions: of this program and of what it computes with; none where an earlier
      version wrote it.
    data: what it is trained on.
  """

  problem: ProblemRecord
  backbone: BackboneRef | None = None
  reads: Reads | None = None
  training: Training | None = None
  initial_checkpoint: str | None = None
  initial_values: InitialValues | None = None
  merged: Merged | None = None
  folder: str | None = None
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  data: DataRecord | None = None
  tokenizer: TokenizerRef | None = (
    None  # of a T5 alone: of others, `reads` has it
  )
  hypermodel_checkpoint: BackboneRef | None = None
  assignment_map: tuple[tuple[str | None, ...], ...] | None = None
  teacher: BackboneRef | None = None

  @property
  def is_of_earlier_version(self) -> bool:
    """Whether some of it is None because nobody wrote it down."""
    return not self.versions

  @property
  def is_t5_alone(self) -> bool:
    """Whether it is a T5 of which nothing says how it reads text."""
    return self.problem.trains_t5_alone and self.reads is None

  @property
  def task_names(self) -> list[str] | None:
    """Of tasks that are trained side by side; None where one adapter serves all."""
    if self.data is None or not self.data.is_side_by_side:
      return None
    return [task.name for task in self.data.tasks or ()]
