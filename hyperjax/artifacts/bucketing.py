"""The microbatches of a run: as its record says, or chosen for its data."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax.artifacts import recording, starting
from hyperjax.artifacts.run_record import RunRecord
from hyperjax.batch import Batch, Lengths
from hyperjax.data import bucket_choice, buckets, feed
from hyperjax.data.buckets import Bucket, Microbatches, Sized
from hyperjax.memory import advice
from hyperjax.models import flops
from hyperjax.models.problems import Problem
from hyperjax.trainer import Trainer


class Run(Protocol):
  """What is asked of a training run, `runs.Train`."""

  @property
  def buckets(self) -> buckets.Buckets | None: ...
  @property
  def data(self) -> Any: ...
  @property
  def num_contexts(self) -> int: ...


def check(problem: Problem, given: buckets.Buckets | None) -> None:
  """Refuses buckets for a problem whose batches must all have one shape.

  Raises:
    ValueError: as it says.
  """
  if given is None:
    return
  if problem.num_tasks > 1:
    raise ValueError(
      f"Train.buckets (BUCKETS) is {given}; {problem.num_tasks} tasks side by "
      "side take whole batches: it must be None"
    )
  teacher = getattr(problem, "teacher", None)
  if teacher is not None and teacher.follows_batch:
    raise ValueError(
      "Teacher.answer_length (TEACHER_ANSWER_LENGTH) is None and Train.buckets "
      f"(BUCKETS) is {given}: what a teacher answers would end where a bucket's "
      "targets do; give the length, or no buckets"
    )


def opened(
  run: Run,
  source: feed.Source,
  trainer: Trainer,
  now: RunRecord,
  before: RunRecord | None,
) -> tuple[Microbatches | None, RunRecord]:
  """As `microbatches`, and the record with what opening the data has shown."""
  now = recording.opened(now, source)
  parts = microbatches(run, source, trainer, now, before)
  return parts, recording.bucketed(now, parts)


def microbatches(
  run: Run,
  source: feed.Source,
  trainer: Trainer,
  now: RunRecord,
  before: RunRecord | None,
) -> Microbatches | None:
  """Makes a run's batches in microbatches; None where they are padded.

  Their shapes are said before anything is trained.

  Args:
    run: the run.
    source: its data.
    trainer: whose mesh and number of microbatches bound them.
    now: the record of the run as it is now.
    before: as it was, where it goes on.
  """
  if run.buckets is None:
    return None
  if not isinstance(source, Sized):
    starting.say(
      f"batches are padded: contexts of {type(run.data).__name__} do not say "
      "their lengths"
    )
    return None
  found = None
  if before is not None:
    devices = trainer.layout.data_parallel
    found = recording.shapes_again(before, now, devices)
  if found is None:
    found = _agreed(choose(run, source, trainer, trainer.num_microbatches))
  starting.say(
    "\n  ".join(
      [
        f"batches of {run.num_contexts} contexts in microbatches of "
        f"{len(found)} shapes:",
        *(each.words for each in found),
      ]
    )
  )
  return Microbatches(
    source,
    run.num_contexts,
    found,
    trainer.layout.own_contexts,
    trainer.problem.backbone.pad_id,
  )


def _agreed(found: Sequence[Bucket]) -> tuple[Bucket, ...]:
  """Those of the first process: where two are as good, others may have chosen other.

  They are chosen by sums of floats, which processors of several kinds may round
  in their own ways.
  """
  if jax.process_count() == 1:
    return tuple(found)
  rows = np.zeros((buckets.MOST, 1 + len(buckets.FEATURES)), np.int32)
  for row, own in zip(rows, found, strict=False):
    row[:] = own.numbers
  agreed = np.asarray(multihost_utils.broadcast_one_to_all(rows)).tolist()
  return tuple(Bucket.of(*row) for row in agreed if row[0])


def choose(
  run: Run, source: Sized, trainer: Trainer, num_microbatches: int
) -> tuple[Bucket, ...]:
  """The buckets of the least work, of no more tokens than padded microbatches."""
  assert run.buckets is not None
  devices, rows = trainer.layout.data_parallel, run.data.rows_per_context
  own = run.num_contexts // devices // num_microbatches
  are_joined = trainer.problem.joins_demonstrations
  tokens = own * source.lengths.tokens(rows, are_joined)
  limits = bucket_choice.Limits(
    run.num_contexts, rows, devices, tokens, are_joined
  )

  def work(lengths: Lengths) -> float:
    sizes = flops.Sizes(
      *(1, rows, lengths.demonstrations, lengths.inputs, lengths.targets),
      max(1, lengths.num_demonstrations),
    )
    return float(flops.of_context(trainer.problem, sizes))

  return bucket_choice.chosen(run.buckets, source, limits, work)


def check_memory(
  run: Run,
  source: feed.Source,
  parts: Microbatches | None,
  trainer: Trainer,
  padded: Callable[[int], Trainer],
) -> None:
  """Compiles a run's step, which is used later; refuses it as `advice.check_step`.

  Args:
    run: the run.
    source: its data.
    parts: makes its microbatches; None where batches are padded.
    trainer: of the run.
    padded: trainers of other numbers of microbatches.
  """
  outline = feed.outline(source, run.num_contexts)
  if parts is None:
    advice.check_step(trainer, padded, run.num_contexts, outline)
    return

  def made(count: int) -> Sequence[Batch]:
    if count == trainer.num_microbatches:
      return parts.outlines()
    found = choose(run, parts.source, trainer, count)
    return Microbatches(parts.source, run.num_contexts, found).outlines()

  def bounded(count: int) -> _Step:
    return _Step(trainer, count, made)

  first = bounded(trainer.num_microbatches)
  advice.check_step(first, bounded, run.num_contexts, outline)


class _Step:
  """A step over microbatches, as far as memory is concerned."""

  def __init__(
    self,
    trainer: Trainer,
    num_microbatches: int,
    made: Callable[[int], Sequence[Batch]],
  ):
    """`made` of a number of microbatches: shapes of as many tokens at most."""
    self.num_microbatches = num_microbatches
    self.abstract, self.layout = trainer.abstract, trainer.layout
    self.problem = trainer.problem
    self._trainer, self._made = trainer, made

  def check_memory(self, batch: Batch) -> None:
    """Compiles the step, texts cut to those of a padded batch's shapes.

    Raises:
      OutOfMemory: it takes more than there is.
    """
    self._trainer.check_memory(
      [_cut(each, batch) for each in self._made(self.num_microbatches)]
    )


def _cut(own: Batch, batch: Batch) -> Batch:
  def cut(x: Any, like: Any) -> Any:
    length = min(x.shape[-1], like.shape[-1])
    return jax.ShapeDtypeStruct((*x.shape[:-1], length), x.dtype)

  return jax.tree.map(cut, own, batch)
