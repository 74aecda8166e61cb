"""What answers under each control: the run's own problem, or another made of it.

Every one is a problem with parameters, so that decoding and ranking are the same
for all: a constant adapter is one that was trained for all tasks, examples in the
input are what in-context learning reads.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import adapters
from hyperjax.batch import Batch
from hyperjax.evaluation import predict, rank
from hyperjax.evaluation.columns import (
  CONSTANT,
  IN_INPUT,
  NONE,
  OTHER,
  RIGHT,
  SHUFFLED,
)
from hyperjax.models import decoding, problems
from hyperjax.models.problems import Problem
from hyperjax.sharding import Layout

CONTROLS = (RIGHT, NONE, SHUFFLED, CONSTANT, IN_INPUT, OTHER)


def conditions(problem: Problem) -> dict[str, str]:
  """Under which controls a problem's answers can differ, each in words."""
  right, none = "the input alone", "nothing: the input alone"
  if problem.has_adapters:
    right, none = "the trained adapter", "nothing: no adapter"
  if not problem.reads_demonstrations:
    return (
      {RIGHT: right, NONE: none} if problem.has_adapters else {RIGHT: right}
    )
  found = {
    RIGHT: "its own demonstrations",
    NONE: none,
    SHUFFLED: "its own, outputs shuffled",
  }
  if problem.has_adapters:
    found |= {
      CONSTANT: "the mean of all adapters",
      IN_INPUT: "its own in the T5's input",
    }
  return found | {OTHER: "another task's demonstrations"}


@dataclasses.dataclass(frozen=True)
class Answering:
  """Programs that answer, and what they answer with."""

  predictor: predict.Predictor
  ranker: rank.Ranker
  params: Any
  frozen: Any
  use_adapters: bool = True

  def decode(self, batch: Batch, seed: Sequence[int]) -> np.ndarray:
    """Tokens [B, T] of a batch that is on the mesh."""
    return self.predictor(
      self.params,
      self.frozen,
      batch,
      use_adapters=self.use_adapters,
      seed=seed,
    )

  def choose(
    self,
    batch: Batch,
    choices: Sequence[Sequence[np.ndarray]],
    max_length: int,
  ) -> list[rank.Ranking]:
    """A ranking of the choices of each row of a batch that is on the mesh."""
    return self.ranker(
      self.params,
      self.frozen,
      batch,
      choices,
      max_length,
      use_adapters=self.use_adapters,
    )


class Answerers:
  """What answers under each control, compiled once each."""

  def __init__(
    self,
    problem: Problem,
    layout: Layout,
    decoder: decoding.Decoder,
    num_tokens: int | None,
  ):
    self._problem, self._layout = problem, layout
    self._decoder, self._num_tokens = decoder, num_tokens
    self._write_sum: Any = None
    if isinstance(problem, problems.HyperTuning):
      self._write_sum = jax.jit(
        functools.partial(_written_sum, problem),
        out_shardings=layout.replicated,
      )

  def mean_adapters(
    self,
    params: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
  ) -> Any:
    """The mean of what a hypermodel writes, array by array.

    Args:
      params: of the hypermodel.
      batches: demonstrations [C, ...], and the weight of each context [C].
    """
    total, weight = None, 0.0
    for demonstrations, weights_C in batches:
      given = self._layout.place({"d": demonstrations, "w": weights_C})
      with self._layout.activate():
        found = self._write_sum(params, given["d"], given["w"])
      total = found if total is None else jax.tree.map(jnp.add, total, found)
      weight += float(weights_C.sum())
    return jax.tree.map(lambda leaf: leaf / weight, total)

  def of(
    self, control: str, params: Any, frozen: Any, constant: Any
  ) -> Answering:
    """What answers under `control`; `constant` are the mean adapters."""
    if control not in (CONSTANT, IN_INPUT):
      own = self._programs("own")
      return Answering(*own, params, frozen, control != NONE)
    backbone = {"backbone": (params | frozen)["backbone"]}
    if control == IN_INPUT:
      return Answering(*self._programs(IN_INPUT), backbone, {})
    trained = {"adapters": adapters.as_params(constant)}
    return Answering(*self._programs(CONSTANT), trained, backbone)

  @functools.cache  # noqa: B019 - as long-lived as what it compiles
  def _programs(self, kind: str) -> tuple[predict.Predictor, rank.Ranker]:
    problem: Any = self._problem
    if kind == IN_INPUT:
      problem = problems.FullFineTuning(problem.backbone, True)
    elif kind == CONSTANT:
      problem = problems.AdapterFineTuning(problem.backbone, problem.adapters)
    return (
      predict.Predictor(problem, self._layout, self._decoder, self._num_tokens),
      rank.Ranker(problem, self._layout),
    )


def _written_sum(
  problem: problems.HyperTuning,
  params: Any,
  demonstrations: Any,
  weights_C: Any,
) -> Any:
  """The weighted sum over contexts of what is written, [L, 1, ...] each."""
  written = problem.write(params, demonstrations)

  def total(leaf: jax.Array) -> jax.Array:
    wide = leaf.astype(jnp.float32)
    return jnp.einsum("lc...,c->l...", wide, weights_C)[:, None]

  return jax.tree.map(total, written)
