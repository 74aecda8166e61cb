"""Learning rate schedules and optimizers, as frozen descriptions of optax's."""

import abc
import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from hyperjax import checks, trees

# A learning rate, or a factor of some.
_Rate = Annotated[float, checks.Number(least=0)]
_Steps = Annotated[int, checks.Whole(0)]
_Decay = Annotated[float, checks.Number(least=0, below=1)]


class Schedule(abc.ABC):
  """The learning rate of each step, counted from 0."""

  warmup_steps: _Steps

  def __post_init__(self):
    checks.fields(self)

  @abc.abstractmethod
  def after_warmup(self, step: jax.Array) -> ArrayLike:
    """The learning rate where warm-up no longer matters."""

  def __call__(self, step: ArrayLike) -> jax.Array:
    """Rises linearly to `after_warmup` over the first `warmup_steps` steps."""
    step = jnp.asarray(step, jnp.float32)
    rate = jnp.float32(self.after_warmup(step))
    if self.warmup_steps < 2:  # the first step has the whole rate
      return rate
    first = 1 / self.warmup_steps
    return rate * optax.linear_schedule(first, 1, self.warmup_steps - 1)(step)


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
  """The same learning rate throughout."""

  value: _Rate
  warmup_steps: _Steps = 0

  def after_warmup(self, step: jax.Array) -> ArrayLike:
    return optax.constant_schedule(self.value)(step)


@dataclasses.dataclass(frozen=True)
class LinearDecay(Schedule):
  """From `peak` at the end of warm-up in a straight line to `final`."""

  peak: _Rate
  # The step, counted from 0, at which `final` is reached.
  decay_steps: checks.Count
  warmup_steps: _Steps = 0
  final: _Rate = 0.0

  def after_warmup(self, step: jax.Array) -> ArrayLike:
    length = max(1, self.decay_steps - self.warmup_steps)
    fall = optax.linear_schedule(self.peak, self.final, length)
    return fall(step - self.warmup_steps)


@dataclasses.dataclass(frozen=True)
class CosineDecay(Schedule):
  """From `peak` at the end of warm-up along half a cosine to `final`."""

  peak: _Rate
  # The step, counted from 0, at which `final` is reached.
  decay_steps: checks.Count
  warmup_steps: _Steps = 0
  final: _Rate = 0.0

  def after_warmup(self, step: jax.Array) -> ArrayLike:
    length = max(1, self.decay_steps - self.warmup_steps)
    fall = optax.cosine_decay_schedule(self.peak - self.final, length)
    return self.final + fall(jnp.maximum(0, step - self.warmup_steps))


@dataclasses.dataclass(frozen=True)
class InverseSquareRoot(Schedule):
  """T5's pretraining schedule: scale / sqrt(max(step, flat_steps)), no rise.

  optax has none of this form.
  """

  scale: _Rate = 1.0
  flat_steps: checks.Count = 10_000
  warmup_steps: _Steps = 0

  def after_warmup(self, step: jax.Array) -> ArrayLike:
    return self.scale / jnp.sqrt(jnp.maximum(step, self.flat_steps))


class Optimizer(abc.ABC):
  """A schedule and how gradients become updates."""

  learning_rate: Schedule

  def __post_init__(self):
    checks.fields(self)

  @abc.abstractmethod
  def build(
    self, rate: optax.Schedule | None = None
  ) -> optax.GradientTransformation:
    """The optax transformation, clipping included.

    Args:
      rate: the learning rate by the number of updates that were done, in place of
        `learning_rate`; a compiled step so takes it as an argument.
    """


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
  """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

  learning_rate: Schedule
  b1: _Decay = 0.9
  b2: _Decay = 0.999
  eps: checks.Positive = 1e-8
  weight_decay: _Rate = 0.0
  clip_norm: checks.Positive | None = 1.0

  def build(
    self, rate: optax.Schedule | None = None
  ) -> optax.GradientTransformation:
    return optax.chain(
      _clip(self.clip_norm),
      optax.adamw(
        rate or self.learning_rate,
        b1=self.b1,
        b2=self.b2,
        eps=self.eps,
        weight_decay=self.weight_decay,
      ),
    )


@dataclasses.dataclass(frozen=True)
class Adafactor(Optimizer):
  """Adafactor (Shazeer and Stern, 2018), each stacked layer for itself.

  Update clipping and parameter scale are norms of one weight matrix. Layers
  are stacked for the scan; taken together they would share one norm, and
  scanning would change what is learnt.
  """

  learning_rate: Schedule
  decay_rate: Annotated[float, checks.Number(above=0, most=1)] = 0.8
  clipping_threshold: checks.Positive | None = 1.0
  multiply_by_parameter_scale: bool = True
  momentum: _Decay | None = None
  min_dim_size_to_factor: checks.Count = 128
  clip_norm: checks.Positive | None = None

  def build(
    self, rate: optax.Schedule | None = None
  ) -> optax.GradientTransformation:
    single = optax.adafactor(
      rate or self.learning_rate,
      decay_rate=self.decay_rate,
      clipping_threshold=self.clipping_threshold,
      multiply_by_parameter_scale=self.multiply_by_parameter_scale,
      momentum=self.momentum,
      min_dim_size_to_factor=self.min_dim_size_to_factor,
    )
    by_layer = optax.GradientTransformation(
      jax.vmap(single.init), jax.vmap(single.update)
    )

    def rule(label: str) -> optax.GradientTransformation:
      return single if label == "single" else by_layer

    return optax.chain(_clip(self.clip_norm), _by_stack(rule))


def by_task(
  single: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`single` for each task of adapters `[L, C, ...]`, as if it were alone.

  So no norm that clips and no factored moment mixes tasks.
  """

  def state_axes(params: Any) -> Any:
    """The task's axis in the state: as in parameters, but first of counts."""
    one = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((x.shape[0], *x.shape[2:]), x.dtype),
      params,
    )
    return jax.tree.map(
      lambda x: min(1, x.ndim), jax.eval_shape(single.init, one)
    )

  def init(params):
    return jax.vmap(single.init, 1, state_axes(params))(params)

  def update(updates, state, params=None):
    of_state = state_axes(params)
    return jax.vmap(single.update, (1, of_state, 1), (1, of_state))(
      updates, state, params
    )

  return optax.GradientTransformation(init, update)


def _by_stack(rule) -> optax.GradientTransformation:
  """`rule(stack)` for the parameters of each stack, rule("single") for others.

  Stacks may differ in depth, so each is transformed on its own.
  """

  def transformation(params: Any) -> optax.GradientTransformation:
    flat = trees.flatten(params)
    labels = {
      path: path.split("/layers/")[0] if "/layers/" in path else "single"
      for path in flat
    }
    return optax.partition(
      {label: rule(label) for label in sorted(set(labels.values()))},
      trees.unflatten(labels),
    )

  def init(params):
    return transformation(params).init(params)

  def update(updates, state, params=None):
    return transformation(updates).update(updates, state, params)

  return optax.GradientTransformation(init, update)


def _clip(norm: float | None) -> optax.GradientTransformation:
  return optax.identity() if norm is None else optax.clip_by_global_norm(norm)
