"""One update: gradients summed over microbatches, then the optimizer's step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperjax.batch import Batch, microbatch
from hyperjax.models import objectives
from hyperjax.models.problems import Problem
from hyperjax.train_state import TrainState, unbroken

# An optimizer's transformation by the learning rate of each update.
Build = Callable[[optax.Schedule], optax.GradientTransformation]
# The index of the next microbatch; gradients, weight and metrics, each summed.
Sums = tuple[jax.Array, Any, jax.Array, objectives.Metrics]


def train_step(
  state: TrainState,
  batch: Batch,
  rate: jax.Array,
  *,
  problem: Problem,
  build: Build,
  num_microbatches: int = 1,
  skips_broken: bool = False,
) -> tuple[TrainState, objectives.Metrics]:
  """One update of `state.params`; `state.frozen` only takes part in the loss.

  Gradients are those of the mean loss over the batch's target tokens, however
  many microbatches they are gathered from. `rate` is the step's learning rate, no
  part of the program, which so serves runs of any. `skips_broken` is as `unbroken`
  says.
  """
  batch = problem.in_parts(batch, num_microbatches)
  if num_microbatches == 1:
    sums = gradients(state, batch, jnp.int32(0), problem)
  else:
    part = functools.partial(
      microbatch, batch, num_microbatches, num_tasks=problem.num_tasks
    )

    def add(sums, index):
      return accumulate(state, sums, part(index), problem=problem), None

    sums, _ = jax.lax.scan(
      add, zeros(state, part(0), problem), jnp.arange(num_microbatches)
    )
  return apply(state, sums, rate, build=build, skips_broken=skips_broken)


def gradients(
  state: TrainState, batch: Batch, index: jax.Array, problem: Problem
) -> Sums:
  """Of a step's microbatch `index`: the next index, and sums over target tokens.

  They are of gradients, of weights and of metrics.
  """
  step_key = jax.random.fold_in(state.key, state.step)
  key = jax.random.fold_in(step_key, index)

  def loss_sum(params):
    loss, weight, metrics = problem.loss_of_part(
      params, state.frozen, batch, key
    )
    return loss, (weight, metrics)

  grads, (weight, metrics) = jax.grad(loss_sum, has_aux=True)(state.params)
  return index + 1, grads, weight, metrics


def zeros(state: TrainState, batch: Batch, problem: Problem) -> Sums:
  """The sums over no microbatch.

  In float32, whatever the parameters are in: sums must not round.
  """
  shapes = jax.eval_shape(
    functools.partial(gradients, problem=problem), state, batch, jnp.int32(0)
  )
  index, *sums = jax.tree.map(
    lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)),
    shapes,
  )
  return index.astype(jnp.int32), *sums


def accumulate(
  state: TrainState, sums: Sums, batch: Batch, *, problem: Problem
) -> Sums:
  """Sums with those of the next microbatch of a step."""
  index, *before = sums
  after, *found = gradients(state, batch, index, problem)
  return after, *jax.tree.map(jnp.add, before, found)


def apply(
  state: TrainState,
  sums: Sums,
  rate: jax.Array,
  *,
  build: Build,
  skips_broken: bool = False,
) -> tuple[TrainState, objectives.Metrics]:
  """The update by the sums over all microbatches of a step."""
  _, grads, weight, metrics = sums
  # A batch without any target token has no gradient, rather than 0/0.
  weight = jnp.where(weight > 0, weight, 1.0)
  grads = jax.tree.map(
    lambda grad, param: (grad / weight).astype(param.dtype), grads, state.params
  )
  updates, opt_state = build(lambda _: rate).update(
    grads, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  norm = (optax.tree.norm(grads), jnp.float32(1))
  metrics = metrics | {"gradient_norm": norm}
  after = dataclasses.replace(
    state, step=state.step + 1, params=params, opt_state=opt_state
  )
  return unbroken(state, after, metrics) if skips_broken else (after, metrics)
