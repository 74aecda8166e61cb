"""What a run writes into its record, of the objects that it is made of."""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, Protocol

import jax

import hyperjax
from hyperjax import checkpoints, metrics, paths
from hyperjax.artifacts import (
  config_json,
  model_info,
  restore,
  run_file,
  typed_json,
)
from hyperjax.artifacts.assignment import AssignmentMap
from hyperjax.artifacts.run_record import (
  BackboneRef,
  BucketRecord,
  DataRecord,
  InitialValues,
  Reads,
  RunRecord,
  TaskShare,
  TokenizerRef,
  Training,
)
from hyperjax.batch import Lengths
from hyperjax.data import (
  buckets,
  feed,
  instructions,
  pairs,
  sources,
  text,
)
from hyperjax.data.buckets import Bucket, Microbatches
from hyperjax.data.vocabularies import keep_copy
from hyperjax.interop import formats
from hyperjax.models import problems
from hyperjax.trackers import Tracker, tracked
from hyperjax.trainer import Trainer

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Fields of data that are in the record elsewhere.
_ELSEWHERE = ("tasks", "feature_lengths", "batch_size", "instruction_readers")
# Not said where they have their defaults: earlier versions had no such field.
_LATER = ("relabel", "relabel_with", "unrelated")


class Run(Protocol):
  """What is recorded of a training run, `runs.Train`."""

  @property
  def model_dir(self) -> str: ...
  @property
  def problem(self) -> problems.Problem: ...
  @property
  def data(self) -> sources.Data: ...
  @property
  def seed(self) -> int: ...
  @property
  def steps(self) -> int: ...
  @property
  def batch_size(self) -> int: ...
  @property
  def optimizer(self) -> Any: ...
  @property
  def mesh(self) -> Any: ...
  @property
  def buckets(self) -> buckets.Buckets | None: ...
  @property
  def initial_checkpoint(self) -> str | None: ...
  @property
  def assignment_map(self) -> AssignmentMap | None: ...
  @property
  def trackers(self) -> Sequence[Tracker]: ...


def described(run: Run, num_microbatches: int) -> RunRecord:
  """A run, as far as it is known before its data is opened.

  Args:
    run: the run.
    num_microbatches: that a batch is taken in, on the mesh that there is.
  """
  initial, rules = run.initial_checkpoint, run.assignment_map
  if initial is not None and not formats.is_foreign(initial):
    initial = str(paths.at(initial).absolute())
  return RunRecord(
    problem=config_json.problem_record(run.problem),
    training=Training(
      run.steps,
      run.batch_size,
      config_json.tagged(run.optimizer),
      config_json.tagged(run.mesh),
      num_microbatches,
      None if run.buckets is None else config_json.tagged(run.buckets),
    ),
    initial_checkpoint=initial,
    assignment_map=None if rules is None else tuple(map(tuple, rules)),
    folder=str(paths.at(run.model_dir).absolute()),
    versions=versions(),
    data=_data(run.data, run.seed),
  )


def versions() -> dict[str, str]:
  """Of this program, and of what its numbers come from."""
  found = {"hyperjax": hyperjax.__version__}
  found["python"] = platform.python_version()
  return found | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _data(given: sources.Data, seed: int) -> DataRecord:
  settings = {}
  if dataclasses.is_dataclass(given):
    settings = {
      field.name: _setting(getattr(given, field.name))
      for field in dataclasses.fields(given)
      if field.name not in _ELSEWHERE and not _is_unsaid(given, field)
    }
  return DataRecord(
    seed=seed,
    rows_per_context=given.rows_per_context,
    kind=type(given).__name__,
    mixture=given.tasks.mixture_or_task,
    split=given.tasks.split,
    settings=settings,
  )


def _is_unsaid(given: Any, field: dataclasses.Field[Any]) -> bool:
  own = getattr(given, field.name)
  return field.name in _LATER and own == field.default


def begun(
  record: RunRecord, backbone: BackboneRef | None, values: InitialValues | None
) -> RunRecord:
  """The same with what a run begins with; `values` None are drawn."""
  if record.problem.trains_adapters and values is None:
    values = InitialValues(random_seed=record.data and record.data.seed)
  return dataclasses.replace(record, backbone=backbone, initial_values=values)


def opened(record: RunRecord, source: feed.Source) -> RunRecord:
  """The same with what opening the data has shown."""
  beside = getattr(source, "unrelated", None)
  assert record.data is not None  # it is opened
  data = dataclasses.replace(
    record.data,
    tasks=_shares(source),
    unrelated=None if beside is None else _shares(beside),
    is_side_by_side=isinstance(source, pairs.SideBySide),
    window=source.size if isinstance(source, text.Windows) else None,
  )
  return dataclasses.replace(record, data=data, reads=_reads(source))


def _shares(source: feed.Source) -> tuple[TaskShare, ...]:
  return tuple(
    TaskShare(task.name, float(task.rate), len(task.rows))
    for task in source.tasks
  )


def bucketed(record: RunRecord, parts: Microbatches | None) -> RunRecord:
  """The same with the shapes of microbatches; None where batches are padded."""
  assert record.training is not None  # `described` says how it is
  shapes = None
  if parts is not None:
    shapes = tuple(BucketRecord(*each.numbers) for each in parts.buckets)
  training = dataclasses.replace(record.training, shapes=shapes)
  return dataclasses.replace(record, training=training)


def shapes_again(
  before: RunRecord, now: RunRecord, devices: int
) -> tuple[Bucket, ...] | None:
  """The buckets that a run had, where it can go on with them; else None.

  It can unless what they were chosen for has changed.
  """
  was, own = before.training, now.training
  if was is None or own is None or was.shapes is None:
    return None
  names = ("buckets", "batch_size", "num_microbatches")
  are_same = all(getattr(was, name) == getattr(own, name) for name in names)
  divide = not any(each.contexts % devices for each in was.shapes)
  found = tuple(Bucket.of(*dataclasses.astuple(each)) for each in was.shapes)
  # The first holds every context, whose lengths may be others now.
  longest = {} if now.reads is None else now.reads.lengths
  is_first = found and dataclasses.asdict(found[0].lengths) == longest
  return found if are_same and divide and is_first else None


def unopened(
  record: RunRecord, given: sources.Data, before: RunRecord
) -> RunRecord:
  """The same, with what only opening the data would show as it was before."""
  data, reads = record.data, before.reads
  training = record.training
  if training is not None and before.training is not None:
    shapes = before.training.shapes
    training = dataclasses.replace(training, shapes=shapes)
  if data is not None and before.data is not None:
    names = ("tasks", "unrelated", "is_side_by_side", "window")
    kept = {name: getattr(before.data, name) for name in names}
    data = dataclasses.replace(data, **kept)
  lengths = getattr(given, "feature_lengths", None)
  if reads is not None and lengths is not None:
    reads = dataclasses.replace(
      reads,
      lengths=dataclasses.asdict(Lengths.from_features(lengths)),
      instruction_readers=tuple(getattr(given, "instruction_readers", ())),
    )
  return dataclasses.replace(record, training=training, data=data, reads=reads)


def _reads(source: feed.Source) -> Reads:
  """What text must become for a model trained on `source`.

  Of tasks side by side also the ids of those instructions that the T5 reads: an
  adapter of one of them means nothing without.
  """
  own = {
    json.dumps(task.vocabulary.description): task.vocabulary
    for task in source.tasks
    if task.vocabulary is not None
  }
  tokenizer = None
  if len(own) == 1:
    (vocabulary,) = own.values()
    tokenizer = TokenizerRef.of(vocabulary.description)
  readers = tuple(
    getattr(getattr(source, "few_shot", source), "instruction_readers", ())
  )
  read = None
  if isinstance(source, pairs.SideBySide) and instructions.BACKBONE in readers:
    read = {
      task.name: tuple(task.instruction.tolist())
      for task in source.tasks
      if task.instruction is not None
    }
  return Reads(tokenizer, dataclasses.asdict(source.lengths), readers, read)


def _setting(value: Any) -> Any:
  """A field of data as data; tasks by their names."""
  if hasattr(value, "mixture_or_task"):
    return {"mixture": value.mixture_or_task, "split": value.split}
  if hasattr(value, "rows_per_context"):  # other data beside it
    is_declared = dataclasses.is_dataclass(value)
    fields = dataclasses.fields(value) if is_declared else ()
    others = {
      field.name: _setting(getattr(value, field.name))
      for field in fields
      if field.name not in _ELSEWHERE
    }
    return {
      "kind": type(value).__name__,
      "lengths": dict(getattr(value, "feature_lengths", {})),
      **others,
      **_setting(value.tasks),
    }
  return config_json.plain(value)


def begin_folder(
  run: Run,
  folder: pathlib.Path,
  config: str,
  trainer: Trainer,
  record: RunRecord,
  source: feed.Source,
  restored_step: int | None,
  saver: checkpoints.Checkpoints,
) -> metrics.Log:
  """Writes what a run folder has before the first step; the log of all further.

  The first process does, of several.
  """
  if jax.process_index() != 0:
    return metrics.NoLog()
  saver.fence.check()
  _write_folder(folder, config, trainer, record, source)
  return _log(folder, restored_step, record, run.trackers, saver)


def _write_folder(
  folder: pathlib.Path,
  config: str,
  trainer: Trainer,
  record: RunRecord,
  source: feed.Source,
) -> None:
  """All that a run folder has before the first step."""
  folder.mkdir(parents=True, exist_ok=True)
  run_file.write(folder, record)
  if config:
    paths.replace(folder / "config.gin", config)
  paths.replace(folder / run_file.MODEL_INFO, model_info.text(trainer))
  for task in source.tasks:
    if task.vocabulary is not None:
      keep_copy(task.vocabulary, folder / restore.VOCABULARY)


def _log(
  folder: pathlib.Path,
  restored_step: int | None,
  record: RunRecord,
  services: Sequence[Tracker],
  saver: checkpoints.Checkpoints,
) -> metrics.Log:
  """A run's log, told to `services` too; it is whole before each checkpoint."""
  own = metrics.RunLog(folder, restored_step, saver.fence)
  saver.before_save.append(own.sync)
  return tracked(own, services, folder, typed_json.dump(record))
