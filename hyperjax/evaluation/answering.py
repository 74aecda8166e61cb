"""What answers under each control: the same T5, under other adapters or inputs.

A control has no program of its own: it hands the one `Predictor` what the
hypermodel writes, a constant adapter or none, inputs with or without examples.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import sharding
from hyperjax.adapters import Adapters, Spec
from hyperjax.memory import program
from hyperjax.memory.program import Program
from hyperjax.models import decoding, forward, t5
from hyperjax.models.problems import Problem
from hyperjax.scores.columns import (
  CONSTANT,
  IN_INPUT,
  MEANS,
  NONE,
  OTHER,
  RELABELLED,
  RELABELLED_CONSTANT,
  RELABELLED_WRONG,
  RIGHT,
  ROTATED,
)
from hyperjax.serving.predictor import Predictor
from hyperjax.serving.writer import Writer
from hyperjax.sharding import Layout

# What is asked where nothing else is said, and what may be asked besides.
ORDINARY = (RIGHT, NONE, ROTATED, CONSTANT, IN_INPUT, OTHER)
CONTROLS = (*ORDINARY, RELABELLED, RELABELLED_WRONG, RELABELLED_CONSTANT)
_SHOWN = (RIGHT, ROTATED, OTHER, RELABELLED, RELABELLED_WRONG)


def conditions(problem: Problem) -> dict[str, str]:
  """Under which controls a problem's answers can differ, each in words."""
  right, none = "the input alone", "nothing: the input alone"
  if problem.has_adapters:
    right, none = "the trained adapter", "nothing: no adapter"
  if not problem.reads_demonstrations:
    found = (
      {RIGHT: right, NONE: none} if problem.has_adapters else {RIGHT: right}
    )
    # It answers alike, and is right by other labels.
    return found | {RELABELLED: f"{right}, all labels replaced"}
  found = {
    RIGHT: "its own demonstrations",
    NONE: none,
    ROTATED: "its own, outputs rotated",
  }
  # Positions of memories are of other tokens each: their mean is of nothing.
  own: Any = problem  # has `adapters` too, if it says that it has any
  has_mean = problem.has_adapters and not own.adapters.keeps_read
  if has_mean:
    found[CONSTANT] = "the mean of all adapters"
  if problem.has_adapters:
    found[IN_INPUT] = "its own in the T5's input"
  found |= {
    OTHER: "another task's demonstrations",
    RELABELLED: "its own, all labels replaced",
    RELABELLED_WRONG: "its own, by wrong labels",
  }
  if has_mean:
    found[RELABELLED_CONSTANT] = "the mean, all labels replaced"
  return found


def has_own_adapters(problem: Problem, control: str) -> bool:
  """Whether each context has adapters of its own, written for it."""
  is_shown = control in _SHOWN
  return is_shown and problem.has_adapters and problem.reads_demonstrations


def reads_in_input(problem: Problem, control: str) -> bool:
  """Whether demonstrations stand before each input of the T5."""
  if control == IN_INPUT:
    return True
  is_shown = control in _SHOWN
  return is_shown and problem.reads_demonstrations and not problem.has_adapters


@dataclasses.dataclass(frozen=True)
class Answering:
  """What answers under one control."""

  backbone: Any  # its parameters
  # From demonstrations of contexts, as the hypermodel reads them, on the host.
  write: Callable[[np.ndarray | None], Adapters]
  predictor: Predictor
  decoder: decoding.Decoder
  layout: Layout
  take: Program
  has_own_adapters: bool = False  # of each context

  @property
  def num_beams(self) -> int:
    """Sequences that are decoded of a row side by side."""
    return decoding.num_beams(self.decoder)

  def setting(
    self,
    tokens_BS: np.ndarray,
    written: Adapters,
    contexts_C: np.ndarray | None = None,
  ) -> forward.Setting:
    """What the T5 is given of rows, on the mesh.

    Args:
      tokens_BS: of C blocks of rows.
      written: adapters of any contexts.
      contexts_C: which of them each block has; None where they are in order.
    """
    if contexts_C is not None and self.has_own_adapters:
      half = max(1, tokens_BS.size // 2 // self.layout.data_parallel)
      what, advice = "adapters of rows", f"set EVAL_TOKENS_PER_BATCH={half}"
      with self.layout.activate(), program.advising(what, advice):
        # Not beside the program that answers: see `checkpoints.finite`.
        written = jax.block_until_ready(
          self.take(written, self.layout.place(contexts_C))
        )
    tokens = self.layout.place(tokens_BS)
    return forward.Setting(self.backbone, tokens, written)

  def decode(
    self,
    setting: forward.Setting,
    max_length: int,
    seed: int = 0,
    numbers_B: np.ndarray | None = None,
  ) -> np.ndarray:
    """Tokens [B, T] of rows; what is drawn depends on the last two.

    Each row draws by its own number, whatever rows are beside it.
    """
    return self.predictor.decode(
      setting,
      max_length,
      self.decoder,
      np.random.SeedSequence(seed).generate_state(2),
      numbers_B,
    )

  def log_likelihood(
    self, setting: forward.Setting, targets_BT: np.ndarray
  ) -> np.ndarray:
    """Of targets [B * A, T], summed over their tokens: float64 [B * A].

    Those of a row, A, are scored from one pass of the encoder.
    """
    return self.predictor.log_likelihood(setting, targets_BT)


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
    self._problem, self._layout, self._decoder = problem, layout, decoder
    self.predictor = Predictor(problem.backbone, layout, num_tokens)
    self._write = Writer(problem, layout)
    spec: Spec | None = getattr(problem, "adapters", None)
    axes = None if spec is None else spec.axes(problem.backbone)
    self._take = Program(functools.partial(_taken, axes), "adapters of rows")
    self._weigh = Program(
      _weighted_sum, "a mean of adapters", out_shardings=layout.replicated
    )

  def add(
    self,
    mean: "Mean",
    params: Any,
    frozen: Any,
    demonstrations: np.ndarray,
    weights_C: np.ndarray,
  ) -> None:
    """Adds what a hypermodel writes of contexts, each by its weight, to a mean."""
    shown, weights = self._layout.place((demonstrations, weights_C))
    written = self._write(self._problem.read_by_write(params, frozen), shown)
    mean.add(self._weigh(written, weights), float(weights_C.sum()))

  def of(
    self,
    control: str,
    params: Any,
    frozen: Any,
    constant: Adapters | None = None,
  ) -> Answering:
    """What answers under `control`; `constant` are the mean adapters."""

    def write(demonstrations: np.ndarray | None) -> Adapters:
      if control in (NONE, IN_INPUT):
        return t5.NO_ADAPTERS
      if control in MEANS:
        assert constant is not None  # the caller has made it
        return constant
      shown = demonstrations
      if shown is not None:
        shown = self._layout.place(shown)
      return self._write(self._problem.read_by_write(params, frozen), shown)

    return Answering(
      (params | frozen)["backbone"],
      write,
      self.predictor,
      self._decoder,
      self._layout,
      self._take,
      has_own_adapters(self._problem, control),
    )


def _taken(axes: Any, written: Adapters, contexts_C: jax.Array) -> Adapters:
  """The adapters of some contexts, in any order; what all share stays one."""

  def take(leaf: jax.Array, names: Any) -> jax.Array:
    if leaf.shape[1] == 1:
      return leaf
    return sharding.constrain(jnp.take(leaf, contexts_C, axis=1), *names)

  return jax.tree.map(take, written, axes)


def _weighted_sum(written: Adapters, weights_C: jax.Array) -> Adapters:
  """The sum over contexts of what is written, [L, 1, ...] each."""

  def total(leaf: jax.Array) -> jax.Array:
    wide = leaf.astype(jnp.float32)
    return jnp.einsum("lc...,c->l...", wide, weights_C)[:, None]

  return jax.tree.map(total, written)
