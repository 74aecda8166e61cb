"""The programs of a run that take its memory and time, ready to be compiled.

They are those that the run itself compiles, for the same shapes: of data only its
lengths are needed, so none is opened.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import runs, sharding
from hyperjax.batch import Batch, Beside, Context, Lengths
from hyperjax.data import feed, sources
from hyperjax.models import teaching
from hyperjax.models.problems import HyperTuning, Problem
from hyperjax.trainer import Trainer

# Data whose lengths are known only once it is opened.
_SIZED = (sources.FewShotEpisodes, sources.TextPairs)
_PADDED = (
  "all of one length, the longest: a run in buckets (BUCKETS) takes less time and no "
  "more tokens at once, but more memory where many of them are targets"
)
# Data whose contexts have demonstrations to read.
_WITH_DEMONSTRATIONS = (sources.FewShotEpisodes, sources.CaclmWindows)


@dataclasses.dataclass(frozen=True)
class Job:
  """One program of a run.

  Attributes:
    what: it does, in words.
    trace: the program, neither lowered nor compiled.
    layout: the mesh.
    held: arrays that lie on the devices as it begins, by kind, with shardings.
    problem: what it computes.
    batch: shapes of what it reads.
    num_microbatches: parts that the batch is taken in.
    trains: whether it has gradients.
    steps: how often a run does it; None where only its data says.
    beside: arrays that lie on the devices too, and that it does not take.
    turns: of a loop that ends when every answer has ended, at most.
    uses: which of the parameters it reads, "backbone" or others; None for all.
    note: what else is to be known of it, in words.
  """

  what: str
  trace: Callable[[], jax.stages.Traced]
  layout: sharding.Layout
  held: Mapping[str, Any]
  problem: Problem
  batch: Batch
  num_microbatches: int = 1
  trains: bool = True
  steps: int | None = None
  beside: Any = ()
  turns: int | None = None
  uses: Collection[str] | None = None
  note: str = ""

  @property
  def tokens(self) -> int:
    """Positions that it reads and predicts, padding among them."""
    reads = self.problem.reads_demonstrations
    parts = (
      self.batch.demonstrations if reads else None,
      self.batch.encoder_input_tokens,
      self.batch.decoder_target_tokens,
    )
    return sum(int(np.prod(x.shape)) for x in parts if x is not None)

  @property
  def targets(self) -> int:
    """Rows of it."""
    return len(self.batch.encoder_input_tokens)

  @property
  def rows_are(self) -> str:
    """What `targets` counts: contexts, where nothing of a row is read."""
    reads = self.batch.encoder_input_tokens.shape[1]
    return "targets" if reads else "contexts"

  def is_used(self, name: str) -> bool:
    """Whether it reads parameters of this name, or below it: "backbone/..."."""
    return self.uses is None or name.split("/")[0] in self.uses


def of_training(run: runs.Train, devices: Sequence[Any]) -> Job:
  """A run's step on `devices`.

  Raises:
    ValueError: the mesh or the microbatches do not divide what they must.
  """
  layout = run.mesh.build(devices)
  trainer = Trainer(
    run.problem, run.optimizer, layout, run.microbatches_on(layout)
  )
  contexts = run.num_contexts
  trainer.check(contexts, run.data.rows_per_context)
  outline = outlined(run.data, contexts)
  state = trainer.abstract
  return Job(
    "a training step",
    lambda: trainer.trace_train_step(outline),
    trainer.layout,
    {
      "weights_trained": state.params,
      "weights_frozen": state.frozen,
      "moments": state.opt_state,
    },
    run.problem,
    outline,
    trainer.num_microbatches,
    steps=run.steps,
    turns=_turns(run.problem, outline),
    note=_PADDED if run.buckets and isinstance(run.data, _SIZED) else "",
  )


def _turns(problem: Problem, outline: Batch) -> int | None:
  """Tokens that a teacher answers in a step, one after another."""
  teacher = problem.teacher if isinstance(problem, HyperTuning) else None
  if teacher is None or teacher.targets != teaching.TEACHER:
    return None
  return teacher.answer_length or outline.decoder_target_tokens.shape[1]


def outlined(data: sources.Data, contexts: int) -> Batch:
  """Shapes of a batch of so many contexts, as the run would read them.

  Raises:
    ValueError: the data does not say its lengths.
  """
  lengths = sources.lengths(data)
  has_demonstrations = isinstance(data, _WITH_DEMONSTRATIONS)
  beside = getattr(data, "unrelated", None)
  return feed.outline(
    _Blank(
      lengths,
      data.rows_per_context,
      has_demonstrations,
      None if beside is None else sources.lengths(beside),
    ),
    contexts,
  )


class _Blank:
  """Contexts without a token, of the shapes that data would have."""

  num_skipped = 0

  def __init__(
    self,
    lengths: Lengths,
    rows: int,
    has_demonstrations: bool,
    beside: Lengths | None = None,
  ):
    self.lengths, self._rows, self._beside = lengths, rows, beside
    self._has_demonstrations = has_demonstrations

  def __getitem__(self, index: int) -> Context:
    nothing: list[np.ndarray] = [np.zeros(0, np.int32)] * self._rows
    read = nothing[0] if self._has_demonstrations else None
    beside = self._beside and Beside(
      np.zeros(0, np.int32), np.zeros(0, np.int32), self._beside
    )
    return Context(nothing, nothing, read, beside)
