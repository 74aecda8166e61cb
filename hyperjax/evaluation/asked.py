"""What an evaluation asks, and what it says of that in its results."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from hyperjax import checks
from hyperjax.artifacts.run_record import Reads
from hyperjax.batch import FeatureLengths
from hyperjax.data import beside, instructions, relabelling
from hyperjax.data.sources import TaskSet
from hyperjax.evaluation import rank
from hyperjax.evaluation.answering import CONTROLS, ORDINARY
from hyperjax.evaluation.figures import Figures
from hyperjax.models import decoding
from hyperjax.scores import columns, expectations, text_metrics
from hyperjax.scores.official_report import Report
from hyperjax.scores.results import Answer

# What the run that is scored says; `Asked.filled` puts it in.
_AS_TRAINED: Any = None


@dataclasses.dataclass(frozen=True)
class Asked:
  """Which tasks are scored, from which demonstrations, by which metrics.

  Attributes:
    name: of this evaluation, in metrics and file names.
    targets: the rows to predict.
    demonstrations: the rows to draw demonstrations from, by task name; several
      sets are a draw each.
    num_demonstrations: how many are drawn; 0 where the hypermodel reads an
      instruction instead.
    feature_lengths: as in training; None for those of the run that is scored.
    default_lengths: those of a T5 that no such run has trained.
    in_order: take the first rows, not random ones: for tasks whose few
      demonstrations are given.
    draws: how often demonstrations are drawn for each task.
    max_targets: rows predicted of a task, from its first; None for all.
    max_tasks: tasks evaluated, evenly spaced; None for all.
    rows_per_context: targets that share one pass of the hypermodel; None for all
      of a task that have the same demonstrations.
    contexts_per_batch: contexts whose adapters are written together, and kept
      while their rows are answered in parts; fewer where their demonstrations
      have more tokens than `tokens_per_batch`.
    tokens_per_batch: of rows that are answered together on each device: what
      the T5 reads, and what it answers or is asked to score.
    least_length: inputs and demonstrations are padded to the least of this, twice
      this, four times and so on that holds them.
    controls: of `CONTROLS`, which are described there. Under those that
      replace labels only tasks of few different outputs are answered.
    relabel_with: how labels are replaced there, of `relabelling.KINDS`.
    metrics: names in `text_metrics.METRICS`.
    decoder: how answers are found: decoded, or chosen (`rank.Rank`) from each
      row's "choices", where it has any.
    seed: of the draws.
    figures: the benchmark's own, written beside ours.
    instruction_readers: of "hypermodel" and "backbone", those that read the
      task's instruction too; None for those of the run that is scored.
    expected: what others report: figure -> (number, source, "known" or
      "likely"), as in `expectations`; copied into the results.
    unrelated: held-out text; how far adapters move the T5 on it is told beside the
      scores.
    num_unrelated: windows of it.
  """

  name: str
  targets: TaskSet
  demonstrations: TaskSet | Sequence[TaskSet]
  num_demonstrations: Annotated[int, checks.Whole(0, checks.MAX_LENGTH)]
  feature_lengths: FeatureLengths = _AS_TRAINED
  default_lengths: FeatureLengths | None = None
  in_order: bool = False
  draws: checks.Count = 1
  max_targets: checks.Count | None = 100
  max_tasks: checks.Count | None = None
  rows_per_context: checks.Count | None = None
  contexts_per_batch: checks.Count = 16
  # A T5-Large (L 24, D 1,024, H * K 1,024, V 32,128) in bfloat16 that answers
  # rows of 1,024 + 128 tokens holds for each row
  # - while it encodes: 16 heads' logits of 1,024 x 1,024 in float32, their
  #   softmax, and its weights in bfloat16: 64 + 64 + 32 MiB, of one layer;
  # - while it decodes: keys and values of what was encoded, 24 x 1,024 x 2,048 in
  #   bfloat16, 96 MiB, its own of 128 positions, 12 MiB, and logits, 0.1 MiB;
  # - while it scores instead: logits of 128 positions in float32, some 3 times in
  #   their softmax, 47 MiB;
  # and 14 rows are 16,384 tokens: 2.2 GiB, then 1.5 GiB. Scoring many choices of
  # short inputs, nearly all tokens have logits: 16,384 x 3 x 128 KiB are 6 GiB.
  # A rank of 16 at queries and values takes 9 MiB of a context, 0.4 GiB of 16 that
  # are kept and 32 that are spread over rows. Both models' weights are 4.5 GiB
  # (trained in float32, the frozen T5 in bfloat16): 11 of 16 GB together.
  tokens_per_batch: checks.Count = 16384
  least_length: checks.Length = 32
  controls: Annotated[Sequence[str], checks.Some(CONTROLS)] = ORDINARY
  relabel_with: relabelling.Kinds = relabelling.KINDS
  metrics: text_metrics.Metrics = ("exact_match", "rouge_l")
  decoder: decoding.Decoder | rank.Rank = decoding.Greedy
  seed: checks.Seed = 0
  figures: Figures | None = None
  instruction_readers: instructions.Readers = _AS_TRAINED
  expected: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unrelated: beside.Text | None = None
  num_unrelated: checks.Count = 32

  def __post_init__(self):
    given = self.controls if isinstance(self.controls, Sequence) else ()
    if any(name in given for name in columns.EARLIER):
      raise ValueError(
        "FewShotEvaluation.controls names 'shuffled', which is a rotation and "
        f"called {columns.ROTATED!r}; got {self.controls!r}"
      )
    checks.fields(self)
    if self.unrelated is not None:
      beside.check("FewShotEvaluation.unrelated", self.unrelated)
      if columns.RIGHT not in self.controls:
        raise ValueError(
          "FewShotEvaluation.unrelated (stages/drift.gin) asks how far the "
          f"adapters of {columns.RIGHT!r} move the T5, which "
          "FewShotEvaluation.controls must name; got "
          f"{list(self.controls)}"
        )
    expectations.check("FewShotEvaluation.expected", self.expected)
    readers = self.instruction_readers
    reads_instruction = readers is None or instructions.HYPERMODEL in readers
    if self.num_demonstrations == 0 and not reads_instruction:
      raise ValueError(
        "FewShotEvaluation.num_demonstrations must be a whole number from 1 "
        "where the hypermodel reads no instruction "
        "(FewShotEvaluation.instruction_readers), got 0"
      )
    if len(self.pools) > 1 and self.draws > 1:
      raise ValueError(
        f"FewShotEvaluation.draws is {self.draws}; with several sets of "
        "demonstrations there is one draw of each"
      )

  def filled(self, reads: Reads | None) -> Self:
    """This, with what it leaves to the run that is scored as that reads text.

    Raises:
      ValueError: the run does not say.
    """
    lengths, readers = self.feature_lengths, self.instruction_readers
    if lengths is None:
      lengths = self.default_lengths if reads is None else reads.features
      if lengths is None:
        raise ValueError(
          f"evaluation {self.name!r}: FewShotEvaluation.feature_lengths "
          "(TASK_FEATURE_LENGTHS) must be given, since what is scored does not "
          "say how it reads text"
        )
    if readers is None:
      readers = () if reads is None else reads.instruction_readers
    return dataclasses.replace(
      self, feature_lengths=lengths, instruction_readers=readers
    )

  @property
  def task_sets(self) -> list[TaskSet]:
    beside = [] if self.unrelated is None else [self.unrelated.tasks]
    return [self.targets, *self.pools, *beside]

  @property
  def pools(self) -> list[TaskSet]:
    """The sets of demonstrations: one for all draws, or one for each."""
    given = self.demonstrations
    return list(given) if isinstance(given, Sequence) else [given]

  @property
  def num_draws(self) -> int:
    return max(self.draws, len(self.pools))

  def describe(self) -> dict[str, Any]:
    """What was asked and what others report, as JSON values for the results."""
    settings = {
      "targets": _named(self.targets),
      "demonstrations": [_named(pool) for pool in self.pools],
      "decoder": {"kind": type(self.decoder).__name__}
      | dataclasses.asdict(self.decoder),
      "draws": self.num_draws,
      "feature_lengths": dict(self.feature_lengths),
      "controls": list(self.controls),
      "instruction_readers": list(self.instruction_readers),
    }
    if columns.RELABELLED in map(columns.base, self.controls):
      settings["relabel_with"] = list(self.relabel_with)
    if self.unrelated is not None:
      settings["unrelated"] = {
        **_named(self.unrelated.tasks),
        "feature_lengths": dict(self.unrelated.feature_lengths),
        "windows": self.num_unrelated,
      }
    for field in (
      "num_demonstrations",
      "in_order",
      "max_targets",
      "max_tasks",
      "rows_per_context",
      "contexts_per_batch",
      "tokens_per_batch",
      "least_length",
      "seed",
    ):
      settings[field] = getattr(self, field)
    described = {"settings": settings}
    if self.expected:
      described["expected"] = expectations.describe(self.expected)
    return described

  def official(self, answers: Sequence[Answer]) -> dict[str, Report]:
    """The benchmark's own figures under each control with its own labels."""
    assert self.figures is not None  # the caller has looked
    return {
      control: self.figures.of(answers, control)
      for control in answers[0].predictions
      if columns.base(control) == columns.RIGHT
    }


def _named(task_set: TaskSet) -> dict[str, str]:
  return {
    "mixture_or_task": task_set.mixture_or_task,
    "split": task_set.split,
  }
