"""What a run trained, from its checkpoint alone: without gin, without its data.

A run's record says what it is of, which backbone that was trained for, and how it
reads text: that is all it takes to use one.
"""

import dataclasses
import pathlib
from typing import Any

from hyperjax.artifacts import config_json, restore
from hyperjax.artifacts.run_record import BackboneRef, Reads, RunRecord
from hyperjax.batch import Lengths
from hyperjax.data import vocabularies
from hyperjax.data.vocabulary import Tokenizer
from hyperjax.models import quantizing


@dataclasses.dataclass(frozen=True)
class Found:
  """A run's folder, one of its steps, and its record; no array is read."""

  shown: str  # how it was asked for, for messages
  folder: pathlib.Path
  step: int
  record: RunRecord

  @property
  def reads(self) -> Reads:
    """How it reads text.

    Raises:
      ValueError: it does not say.
    """
    reads = self.record.reads
    if reads is None:
      raise ValueError(
        f"{self.shown} does not say how it reads text, since an earlier "
        "version wrote it: train it on for a few steps with this one"
      )
    return reads

  @property
  def backbone(self) -> BackboneRef | None:
    """The T5 that it began with, or has frozen; None where that was random.

    Raises:
      ValueError: it is frozen, and not to be had again.
    """
    named = self.record.backbone
    if named is None and not self.record.problem.trains_t5:
      raise ValueError(
        f"{self.shown}: its frozen backbone was random and is not saved"
      )
    return named


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run at one of its checkpoints, ready to be used; no array is read yet."""

  folder: pathlib.Path
  step: int
  record: RunRecord
  problem: Any  # the `problems.Problem` that it trains
  lengths: Lengths
  instruction_readers: tuple[str, ...]  # of `instructions.READERS`
  vocabulary: Tokenizer

  @property
  def trains_t5(self) -> bool:
    """Whether its T5 is among what it trains."""
    return self.record.problem.trains_t5

  @property
  def frozen_t5(self) -> BackboneRef:
    """Its T5, where that is frozen."""
    assert self.record.backbone is not None and not self.trains_t5
    return self.record.backbone


def in_precision(run: Trained, quantization: str | None) -> Trained:
  """A run whose T5 is so quantized; None: as in training."""
  problem = quantizing.of_backbone(run.problem, quantization)
  return dataclasses.replace(run, problem=problem)


def find(path: str, setting: str = "--model", step: int | None = None) -> Found:
  """The run in a folder, of whatever it trains.

  Args:
    path: of the run.
    setting: which `path` is, for messages.
    step: of a checkpoint; by default the last.

  Raises:
    ValueError: there is no run, or no such checkpoint of it.
  """
  folder = restore.existing(path, setting)
  found = look(folder, f"{setting} {path}", step)
  if found is None:
    raise ValueError(
      f"{setting} {path} is no run: it has no checkpoint in "
      f"{restore.CHECKPOINTS}/"
    )
  return found


def look(
  folder: pathlib.Path, shown: str, step: int | None = None
) -> Found | None:
  """The run in a folder that is there, None if it is none; else as `find`."""
  found = restore.recorded(folder, step)
  return None if found is None else Found(shown, folder, *found)


def open_run(
  path: str, vocabulary_path: str | None = None, setting: str = "--model"
) -> Trained:
  """The hypermodel's run in a folder.

  Args:
    path: of the run.
    vocabulary_path: where its tokenizer lies, if neither in the run nor where
      it was; it must be the same one.
    setting: which `path` is, for messages.

  Raises:
    ValueError: there is no run, it trained no hypermodel, or lacks something.
  """
  found = find(path, setting)
  own = found.record.problem
  if not own.writes_adapters:
    raise ValueError(
      f"{found.shown} is a run of {own.kind}, which trains no hypermodel"
    )
  return read(found, vocabulary_path)


def read(found: Found, vocabulary_path: str | None = None) -> Trained:
  """A run with its tokenizer.

  Raises:
    ValueError: it does not say how it reads text, or lacks its tokenizer.
  """
  reads, _ = found.reads, found.backbone  # both must be there
  return Trained(
    found.folder,
    found.step,
    found.record,
    config_json.problem(found.record.problem, found.shown),
    Lengths(**reads.lengths),
    reads.instruction_readers,
    tokenizer(found, vocabulary_path),
  )


def check_moved(run: Trained, moved: str | None) -> None:
  """Refuses to look elsewhere for a T5 that a run has trained itself.

  Raises:
    ValueError: as it says.
  """
  if run.trains_t5 and moved:
    raise ValueError(
      f"--backbone {moved}: the T5 of {run.folder} was trained in that run, "
      "and is part of it"
    )


def tokenizer(found: Found, path: str | None = None) -> Tokenizer:
  """The tokenizer that a run was trained with; text means nothing without it.

  Args:
    found: the run.
    path: where it lies, if neither in the run nor where it was.

  Raises:
    ValueError: it is not there, or another one is.
  """
  own = found.reads.tokenizer
  if own is None or not own.is_readable:
    raise ValueError(
      f"{found.shown} was trained on tokens of no single tokenizer whose files "
      "are at hand, so text cannot be read as in training"
    )
  if path is None:
    beside = found.folder / restore.VOCABULARY
    try:
      opened = vocabularies.open_described(own.description, beside)
    except ValueError as error:
      raise ValueError(f"{error}; --vocabulary says where it is") from error
    assert opened is not None  # it is readable
    return opened
  vocabularies.check_here(path)
  given = vocabularies.named_as(path, own.description)
  if given.identity != own.identity:
    raise ValueError(
      f"--vocabulary {path} is not the tokenizer of {found.folder}: its identity is "
      f"{given.identity[:16]}, the run's {str(own.identity)[:16]}"
    )
  return given
