"""How written adapters are trained further, and what that came to."""

import dataclasses
from typing import Annotated, Any

from hyperjax import adapters, checks
from hyperjax.scores import text_metrics
from hyperjax.serving.answering_t5 import BATCH_SIZE

# An adapter's origin has what became of it under this name.
FURTHER = "trained_further"
_DIGITS = 6
# By kind, as it acts: a LoRA's scale is inside.
RATES = {
  "LoraSpec": 3e-3,
  "PlacedLoraSpec": 3e-3,
  "PrefixSpec": 3e-2,
  "Ia3Spec": 1e-2,
}
_OTHER_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Tuning:
  """How adapters are trained further.

  Attributes:
    steps: updates at most.
    learning_rate: of AdamW throughout; None: by kind, `RATES`.
    batch_size: examples in a step at most; all where there are fewer.
    seed: of their order.
    metric: of answers, of `text_metrics.METRICS`.
  """

  steps: checks.Count
  learning_rate: checks.Positive | None = None
  batch_size: checks.Count = BATCH_SIZE
  seed: checks.Seed = 0
  metric: Annotated[str, checks.OneOf(text_metrics.METRICS)] = "equal"

  def __post_init__(self):
    checks.fields(self)

  def rate(self, spec: adapters.Spec) -> float:
    """The learning rate of a kind."""
    if self.learning_rate is not None:
      return self.learning_rate
    if isinstance(spec, adapters.ComposedSpec):
      return min(map(self.rate, spec.parts))
    return RATES.get(type(spec).__name__, _OTHER_RATE)


@dataclasses.dataclass(frozen=True)
class Scores:
  """What examples came to under an adapter: means over them."""

  score: float  # by the metric, from 0 to 1
  log_likelihood: float  # natural logarithm, of an output


@dataclasses.dataclass(frozen=True)
class Tuned:
  """What became of an adapter, and how that is known."""

  steps: int  # that it was trained for
  asked: int
  learning_rate: float
  batch_size: int
  seed: int
  metric: str
  examples: int
  held_out: int  # of these; with 0 all that follows is of what was trained on
  curve: tuple[tuple[int, float], ...]  # nats a target token, by step
  before: Scores
  after: Scores

  def sentence(self) -> str:
    """All of it in words."""
    took = f"trained for {self.steps} of {self.asked} steps"
    if not self.steps:
      took = f"none of {self.asked} steps made it better, so it is as written"
    what = "examples that it was trained on, none held out"
    if self.held_out:
      what = f"held-out examples, of one from the other {self.examples - self.held_out}"
    count = self.held_out or self.examples
    return (
      f"{took}; {self.metric} {self.before.score:.2f} before, "
      f"{self.after.score:.2f} after, log-likelihood "
      f"{self.before.log_likelihood:.2f} and {self.after.log_likelihood:.2f}, on "
      f"{count} {what}"
    )

  def as_json(self) -> dict[str, Any]:
    """For an adapter's origin."""
    found = dataclasses.asdict(self)
    found["curve"] = [
      {"step": step, "loss": round(loss, _DIGITS)} for step, loss in self.curve
    ]
    return found | {"sentence": self.sentence()}
