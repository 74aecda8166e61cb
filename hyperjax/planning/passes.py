"""Passes of T5s over a program's batch: of which rows, and with a gradient or not."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax

from hyperjax.models import teaching
from hyperjax.models.problems import HyperTuning
from hyperjax.models.t5_layers import T5Config
from hyperjax.planning.jobs import Job


@dataclasses.dataclass(frozen=True)
class Pass:
  """One of a T5.

  Attributes:
    name: of its parameters.
    config: its sizes.
    rows: of the whole batch.
    read: tokens of each that its encoder reads.
    written: positions of each in its decoder.
    has_logits: over the vocabulary, for each position.
    goes_back: whether a gradient goes through its decoder.
    encoder_goes_back: and through its encoder.
  """

  name: str
  config: T5Config
  rows: int
  read: int
  written: int
  has_logits: bool = True
  goes_back: bool = False
  encoder_goes_back: bool = False


def of(job: Job) -> list[Pass]:
  """All of a program's."""
  return [each for each in _of(job) if job.is_used(each.name)]


def _of(job: Job) -> Iterator[Pass]:
  problem, batch = job.problem, job.batch
  config, shown = problem.backbone, batch.demonstrations
  rows, read = batch.encoder_input_tokens.shape
  written = _written(job)
  contexts, joined = 0, 0
  if shown is not None:
    contexts, joined = shown.shape[0], math.prod(shown.shape[1:])
  if isinstance(problem, HyperTuning):
    slots = problem.adapters.num_slots
    own, goes = problem.hypermodel.stacks, job.trains
    yield Pass("hypermodel", own, contexts, joined, slots, False, goes, goes)
  elif not problem.reads_demonstrations:
    joined = 0
  adapted = {
    "goes_back": job.trains,
    "encoder_goes_back": job.trains and _is_steered(job),
  }
  in_input = 0 if problem.has_adapters else joined
  yield Pass("backbone", config, rows, read + in_input, written, **adapted)
  if not job.trains or not isinstance(problem, HyperTuning):
    return
  if problem.teacher is not None:
    own = problem.teacher.t5
    name = "backbone" if own is None else teaching.TEACHER
    one = Pass(name, own or config, rows, joined + read, written)
    yield one
    if problem.teacher.targets == teaching.TEACHER:
      yield one  # it answers first
  if problem.do_no_harm and batch.unrelated_inputs is not None:
    texts, length = batch.unrelated_inputs.shape
    said = batch.unrelated_targets.shape[1]
    plain = Pass("backbone", config, texts, length, said)
    yield from (plain, dataclasses.replace(plain, **adapted))


def _written(job: Job) -> int:
  """Positions of a row's target: a teacher's answers may have another length."""
  if job.trains and job.turns is not None:
    return job.turns
  return job.batch.decoder_target_tokens.shape[1]


def _is_steered(job: Job) -> bool:
  """Whether anything within the backbone's encoder is trained, or writes for it."""
  if "backbone" in job.held["weights_trained"]:
    return True
  spec: Any = getattr(job.problem, "adapters", None)
  leaves = spec.leaves(job.problem.backbone)
  return bool(jax.tree.leaves(leaves.encoder))
