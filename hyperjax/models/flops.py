"""Floating-point operations of matrix products: counted, and by formula.

A product of [M, K] and [K, N] takes 2 M K N. `count` walks a jaxpr and takes the
body of a scan as often as it runs, which XLA's cost analysis does not. `needed`
is the arithmetic that HyperTuning cannot do without: forward and backward for
the hypermodel, forward and the gradient of every layer's input for the frozen
backbone.
"""

import dataclasses
import math
from typing import Any

import jax

from hyperjax import adapters
from hyperjax.models import hypermodel, problems
from hyperjax.models.t5_layers import T5Config


def count(jaxpr: Any, turns: int | None = None) -> int:
  """Operations of all matrix products in a (closed) jaxpr.

  Args:
    jaxpr: of a program.
    turns: of `while` loops, whose length it does not say.

  Raises:
    ValueError: a product stands in a `while` loop, and `turns` is None.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inner = [count(part, turns) for part in _jaxprs(equation.params)]
    if name == "dot_general":
      total += _product(equation)
    elif name == "scan":
      total += equation.params["length"] * sum(inner)
    elif name == "pallas_call":  # its program is that of one block
      total += math.prod(equation.params["grid_mapping"].grid) * sum(inner)
    elif name == "cond":
      total += max(inner)
    elif name == "while" and any(inner):
      if turns is not None:
        total += turns * sum(inner)
        continue
      raise ValueError("a matrix product in a while loop runs unknown times")
    else:
      total += sum(inner)
  return total


def _jaxprs(params: Any) -> list[Any]:
  """The jaxprs among an equation's parameters."""
  leaves = jax.tree.leaves(params, is_leaf=lambda x: hasattr(x, "eqns"))
  return [x for x in leaves if hasattr(x, "eqns") or hasattr(x, "jaxpr")]


def _product(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  out = equation.outvars[0].aval.shape
  return 2 * math.prod(out) * math.prod(left[i] for i in contracted)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Extents of a HyperTuning batch."""

  contexts: int  # C
  rows: int  # B
  demonstrations: int  # S_h, or S_n where each is read by itself
  inputs: int  # S
  targets: int  # T
  num_separate: int = 1  # rows that a context's demonstrations are read in


@dataclasses.dataclass(frozen=True)
class _Forward:
  """Operations of one forward pass, by what its backward pass needs.

  The gradient of a product by a weight takes as much again for the input and
  as much for the weight; of a product of two activations, twice as much.
  """

  by_weights: int = 0
  by_activations: int = 0

  def __add__(self, other: "_Forward") -> "_Forward":
    return _Forward(
      self.by_weights + other.by_weights,
      self.by_activations + other.by_activations,
    )

  def __mul__(self, times: int) -> "_Forward":
    return _Forward(self.by_weights * times, self.by_activations * times)

  @property
  def forward(self) -> int:
    return self.by_weights + self.by_activations

  @property
  def trained(self) -> int:
    """Forward and whole backward."""
    return 3 * self.forward

  @property
  def frozen(self) -> int:
    """Forward, and backward to the input only."""
    return 2 * self.by_weights + 3 * self.by_activations


def needed(problem: problems.HyperTuning, sizes: Sizes) -> dict[str, int]:
  """Operations of one update, part by part; "total" is their sum."""
  parts = {
    "hypermodel, forward and backward": _reading(problem, sizes).trained,
    "backbone, forward and input gradient": _steered(problem, sizes),
    "adapters, forward and backward": _adapting(
      problem.backbone, problem.adapters, sizes
    ).frozen,
  }
  return parts | {"total": sum(parts.values())}


def _steered(problem: problems.HyperTuning, sizes: Sizes) -> int:
  """Of the backbone, whose encoder has a backward pass if an adapter is in it."""
  backbone = problem.backbone
  whole = _answering(backbone, sizes).frozen
  leaves = problem.adapters.leaves(backbone)
  if jax.tree.leaves(leaves.encoder):
    return whole
  joined = backbone.num_heads * backbone.head_dim
  read = 4 * sizes.inputs * backbone.emb_dim * joined  # keys and values
  reading = _Forward(by_weights=read) * backbone.num_decoder_layers
  alone = (_encoder(backbone, sizes.inputs) + reading) * sizes.rows
  return whole - alone.frozen + alone.forward


def of_context(problem: problems.Problem, sizes: Sizes) -> int:
  """About the operations that one context of a batch takes in an update.

  By which lengths are compared: of a joint training's weights as of frozen ones.
  """
  one = dataclasses.replace(sizes, contexts=1)
  if isinstance(problem, problems.HyperTuning):
    return needed(problem, one)["total"]
  if problem.reads_demonstrations:
    joined = one.demonstrations * one.num_separate
    one = dataclasses.replace(one, inputs=one.inputs + joined)
  answering = _answering(problem.backbone, one)
  return answering.frozen if problem.has_adapters else answering.trained


def per_query(problem: problems.Problem, sizes: Sizes) -> dict[str, int]:
  """Operations of one forward pass for one target, by how it is answered.

  "with_adapter" and "demonstrations_in_input" are what a query costs either way;
  "writing_adapter" comes once for a task. Of a problem without adapters or
  without hypermodel those are left out.
  """
  backbone = problem.backbone
  one = dataclasses.replace(sizes, rows=1, contexts=1)
  joined = one.demonstrations * one.num_separate
  longer = dataclasses.replace(one, inputs=one.inputs + joined)
  found = {
    "input_alone": _answering(backbone, one).forward,
    "demonstrations_in_input": _answering(backbone, longer).forward,
  }
  spec: adapters.Spec | None = getattr(problem, "adapters", None)
  if spec is not None:
    answering = _answering(backbone, one) + _adapting(backbone, spec, one)
    found["with_adapter"] = answering.forward
  if isinstance(problem, problems.HyperTuning):
    reading = _reading(problem, dataclasses.replace(sizes, contexts=1))
    found["writing_adapter"] = reading.forward
  return found


@dataclasses.dataclass(frozen=True)
class _Reading:
  """The hypermodel's pass over demonstrations: trained parts, and frozen ones."""

  own: _Forward
  # Under which something is trained, or nothing.
  passed: _Forward = _Forward()
  read_alone: _Forward = _Forward()

  @property
  def forward(self) -> int:
    return self.own.forward + self.passed.forward + self.read_alone.forward

  @property
  def trained(self) -> int:
    """Forward, and backward to whatever is trained."""
    return self.own.trained + self.passed.frozen + self.read_alone.forward


def _reading(problem: problems.HyperTuning, sizes: Sizes) -> _Reading:
  """The hypermodel's pass over the demonstrations of every context."""
  config, contexts = problem.hypermodel, sizes.contexts
  rows, length = sizes.num_separate, sizes.demonstrations
  slots = problem.adapters.num_slots
  encoder = _encoder(config.stacks, length) * (rows * contexts)
  decoder = _Forward()
  if slots:
    decoder = _decoder(config.stacks, slots, length * rows) * contexts
  made = hypermodel.head(config, problem.adapters, problem.backbone)
  head = _Forward(made.flops(length * rows)) * contexts
  if config.body == hypermodel.FROZEN_ENCODER:
    return _Reading(decoder + head, read_alone=encoder)
  if config.changes is None:
    return _Reading(encoder + decoder + head)
  leaves = hypermodel.changed(config.changes, config.t5, slots > 0)
  changes = _adapters(config.t5, leaves, length * rows, slots)
  changed = _Forward(by_weights=changes) * contexts
  return _Reading(changed + head, passed=encoder + decoder)


def _answering(backbone: T5Config, sizes: Sizes) -> _Forward:
  """The backbone's pass over every row, without adapters."""
  one = (
    _encoder(backbone, sizes.inputs)
    + _decoder(backbone, sizes.targets, sizes.inputs)
    + _Forward(2 * sizes.targets * backbone.emb_dim * backbone.vocab_size)
  )
  return one * sizes.rows


def _encoder(config: T5Config, length: int) -> _Forward:
  joined = config.num_heads * config.head_dim
  layer = _Forward(
    by_weights=8 * length * config.emb_dim * joined + _mlp(config, length),
    by_activations=4 * length * length * joined,
  )
  return layer * config.num_encoder_layers


def _decoder(config: T5Config, length: int, encoded: int) -> _Forward:
  joined = config.num_heads * config.head_dim
  own = 8 * length * config.emb_dim * joined
  cross = 4 * (length + encoded) * config.emb_dim * joined
  layer = _Forward(
    by_weights=own + cross + _mlp(config, length),
    by_activations=4 * length * (length + encoded) * joined,
  )
  return layer * config.num_decoder_layers


def _mlp(config: T5Config, length: int) -> int:
  products = len(config.mlp_activations) + 1
  return 2 * products * length * config.emb_dim * config.mlp_dim


def _adapting(
  backbone: T5Config, spec: adapters.Spec, sizes: Sizes
) -> _Forward:
  """What adapters add to the backbone's pass over every row."""
  leaves = spec.leaves(backbone)
  added = _adapters(backbone, leaves, sizes.inputs, sizes.targets)
  once = sum(
    node.context_flops(backbone) for node in adapters.nodes(leaves).values()
  )
  return _Forward(
    by_weights=once * sizes.contexts, by_activations=added * sizes.rows
  )


def _adapters(
  config: T5Config, leaves: adapters.Adapters, encoded: int, decoded: int
) -> int:
  """What adapters add for a row, over the positions that each works on."""
  total = 0
  for place, node in adapters.nodes(leaves).items():
    is_encoded = place.startswith("encoder") or place.endswith(
      ("encoder_decoder_attention.key", "encoder_decoder_attention.value")
    )
    total += node.flops(encoded if is_encoded else decoded, config)
  return total
