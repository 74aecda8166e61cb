"""What answers under each control: the same T5, under other adapters or inputs.

A control has no program of its own: it hands the one `Predictor` what the
hypermodel writes, a constant adapter or none, inputs with or without examples.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.adapters import Adapters
from hyperjax.batch import Batch
from hyperjax.memory.program import Program
from hyperjax.models import decoding, forward, problems
from hyperjax.models.problems import Problem
from hyperjax.scores.columns import (
  CONSTANT,
  IN_INPUT,
  NONE,
  OTHER,
  RIGHT,
  ROTATED,
)
from hyperjax.scores.ranking import Ranking
from hyperjax.serving.predictor import Predictor
from hyperjax.serving.writer import Writer
from hyperjax.sharding import Layout

CONTROLS = (RIGHT, NONE, ROTATED, CONSTANT, IN_INPUT, OTHER)


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
    ROTATED: "its own, outputs rotated",
  }
  if problem.has_adapters:
    found |= {
      CONSTANT: "the mean of all adapters",
      IN_INPUT: "its own in the T5's input",
    }
  return found | {OTHER: "another task's demonstrations"}


@dataclasses.dataclass(frozen=True)
class Answering:
  """What answers under one control."""

  give: Callable[[Batch], forward.Setting]  # of a batch that is on the mesh
  predictor: Predictor
  decoder: decoding.Decoder

  def decode(
    self, batch: Batch, seed: int = 0, numbers_B: np.ndarray | None = None
  ) -> np.ndarray:
    """Tokens [B, T] of a batch; what is drawn depends on the last two.

    Each row draws by its own number, whatever rows are beside it.
    """
    return self.predictor.decode(
      self.give(batch),
      batch.decoder_target_tokens.shape[1],
      self.decoder,
      np.random.SeedSequence(seed).generate_state(2),
      numbers_B,
    )

  def choose(
    self,
    batch: Batch,
    choices: Sequence[Sequence[np.ndarray]],
    max_length: int,
  ) -> list[Ranking]:
    """A ranking of the choices of each row: token ids with the end of sequence.

    Every choice of a row is scored from one pass of the encoder, and one of the
    hypermodel for all rows of a context. Choices that a row lacks have no weight
    and are never chosen.
    """
    sums = self.predictor.score(self.give(batch), choices, max_length)
    return [
      Ranking(found, [len(ids) for ids in own])
      for found, own in zip(sums, choices, strict=True)
    ]

  def log_likelihood(self, batch: Batch, targets_BT: np.ndarray) -> np.ndarray:
    """Of each row's targets, summed over their tokens: float64 [B]."""
    return self.predictor.log_likelihood(self.give(batch), targets_BT)


class Mean:
  """The mean of adapters, array by array, of which sums are added."""

  def __init__(self):
    self._total, self._weight = None, 0.0

  def add(self, found: Adapters, weight: float) -> None:
    total = self._total
    if total is not None:
      found = jax.tree.map(jnp.add, total, found)
    self._total, self._weight = found, self._weight + weight

  @property
  def value(self) -> Adapters:
    assert self._total is not None  # something was added
    return jax.tree.map(lambda leaf: leaf / self._weight, self._total)


class Answerers:
  """What answers under each control; all have the same programs."""

  def __init__(
    self,
    problem: Problem,
    layout: Layout,
    decoder: decoding.Decoder,
    num_tokens: int | None,
  ):
    self._layout, self._decoder = layout, decoder
    self._predictor = Predictor(problem.backbone, layout, num_tokens)
    self._write = Writer(problem, layout)
    in_context = problems.FullFineTuning(problem.backbone, True)
    self._read, self._read_in_context = [
      Program(each.read, "inputs", out_shardings=layout.batch)
      for each in (problem, in_context)
    ]
    self._weigh = Program(
      _weighted_sum, "a mean of adapters", out_shardings=layout.replicated
    )

  def add(
    self,
    mean: "Mean",
    params: Any,
    demonstrations: np.ndarray,
    weights_C: np.ndarray,
  ) -> None:
    """Adds what a hypermodel writes of contexts, each by its weight, to a mean."""
    shown, weights = self._layout.place((demonstrations, weights_C))
    mean.add(
      self._weigh(self._write(params, shown), weights), float(weights_C.sum())
    )

  def of(
    self,
    control: str,
    params: Any,
    frozen: Any,
    constant: Adapters | None = None,
  ) -> Answering:
    """What answers under `control`; `constant` are the mean adapters."""
    backbone = (params | frozen)["backbone"]

    def give(batch: Batch) -> forward.Setting:
      alone = forward.Setting(backbone, batch.encoder_input_tokens)
      if control == NONE:
        return alone
      if control == IN_INPUT:
        return alone._replace(tokens=self._read_in_context(batch))
      if control == CONSTANT:
        assert constant is not None  # the caller has made it
        return alone._replace(adapters=constant)
      written = self._write(params, batch.demonstrations)
      return forward.Setting(backbone, self._read(batch), written)

    return Answering(give, self._predictor, self._decoder)


def _weighted_sum(written: Adapters, weights_C: jax.Array) -> Adapters:
  """The sum over contexts of what is written, [L, 1, ...] each."""

  def total(leaf: jax.Array) -> jax.Array:
    wide = leaf.astype(jnp.float32)
    return jnp.einsum("lc...,c->l...", wide, weights_C)[:, None]

  return jax.tree.map(total, written)
