"""What a run writes into its record, of the objects that it is made of."""

import dataclasses
import importlib.metadata
import json
import platform
from typing import Any

import hyperjax
from hyperjax.artifacts import config_json
from hyperjax.artifacts.run_record import (
  DataRecord,
  Reads,
  RunRecord,
  TaskShare,
  TokenizerRef,
)
from hyperjax.batch import Lengths
from hyperjax.data import feed, instructions, pairs, sources, text

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Fields of data that are in the record elsewhere.
_ELSEWHERE = ("tasks", "feature_lengths", "batch_size", "instruction_readers")


def versions() -> dict[str, str]:
  """Of this program, and of what its numbers come from."""
  found = {"hyperjax": hyperjax.__version__}
  found["python"] = platform.python_version()
  return found | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def data(given: sources.Data, seed: int) -> DataRecord:
  """Training data as its description says, before it is opened."""
  settings = {}
  if dataclasses.is_dataclass(given):
    settings = {
      field.name: _setting(getattr(given, field.name))
      for field in dataclasses.fields(given)
      if field.name not in _ELSEWHERE
    }
  return DataRecord(
    seed=seed,
    rows_per_context=given.rows_per_context,
    kind=type(given).__name__,
    mixture=given.tasks.mixture_or_task,
    split=given.tasks.split,
    settings=settings,
  )


def opened(record: RunRecord, source: feed.Source) -> RunRecord:
  """The same with what opening the data has shown."""
  tasks = tuple(
    TaskShare(task.name, float(task.rate), len(task.rows))
    for task in source.tasks
  )
  assert record.data is not None  # it is opened
  data = dataclasses.replace(
    record.data,
    tasks=tasks,
    is_side_by_side=isinstance(source, pairs.SideBySide),
    window=source.size if isinstance(source, text.Windows) else None,
  )
  return dataclasses.replace(record, data=data, reads=_reads(source))


def unopened(
  record: RunRecord, given: sources.Data, before: RunRecord
) -> RunRecord:
  """The same, with what only opening the data would show as it was before."""
  data, reads = record.data, before.reads
  if data is not None and before.data is not None:
    names = ("tasks", "is_side_by_side", "window")
    kept = {name: getattr(before.data, name) for name in names}
    data = dataclasses.replace(data, **kept)
  lengths = getattr(given, "feature_lengths", None)
  if reads is not None and lengths is not None:
    reads = dataclasses.replace(
      reads,
      lengths=dataclasses.asdict(Lengths.from_features(lengths)),
      instruction_readers=tuple(getattr(given, "instruction_readers", ())),
    )
  return dataclasses.replace(record, data=data, reads=reads)


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
  return config_json.plain(value)
