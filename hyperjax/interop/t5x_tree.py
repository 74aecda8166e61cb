"""What t5x's parameter tree says of a T5: its sizes, and layers one by one.

A checkpoint of t5x has no configuration: sizes are read off the shapes. Its
scanned models hold the layers of an array in one, on axis 1, with a relative
position bias for each layer. Where those of a stack are equal it is T5's one bias,
else umT5's.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hyperjax.models.t5_layers import T5Config

# What the arrays leave open, and may be said when a checkpoint is opened; the
# number of activations is in the arrays.
OPEN_FIELDS = (
  "relpos_max_distance",
  "mlp_activations",
  "layer_norm_epsilon",
  "start_id",
  "eos_ids",
  "pad_id",
)

_EMBEDDING = "token_embedder/embedding"
_OUTPUT = "decoder/logits_dense/kernel"
_BIAS = "relpos_bias/rel_embedding"
_STACKS = {"encoder": "attention", "decoder": "self_attention"}
# Kernels that may have an axis of heads and one of their width, or both joined.
_TO_HEADS = re.compile(r".*attention/(query|key|value)/kernel")
_FROM_HEADS = re.compile(r".*attention/out/kernel")


class Array(Protocol):
  """An array of a checkpoint, wherever it lies."""

  @property
  def shape(self) -> tuple[int, ...]: ...

  def read(self, layer: int | None = None) -> np.ndarray:
    """All of it, or one entry of axis 1."""
    ...


@dataclasses.dataclass(frozen=True)
class Part:
  """An array of an unscanned T5: one of the checkpoint, or a layer of one."""

  array: Array
  shape: tuple[int, ...]
  layer: int | None = None

  def read(self) -> np.ndarray:
    return self.array.read(self.layer).reshape(self.shape)


def unscanned(arrays: Mapping[str, Array], where: str) -> dict[str, Part]:
  """The arrays of the T5 that a checkpoint holds, by t5x's unscanned names.

  Raises:
    ValueError: an array is empty, or some layers of a T5 lack a bias that others
      have.
  """
  parts = {}
  for name, array in arrays.items():
    if 0 in array.shape:
      raise ValueError(f"{where}: {name} is {array.shape}, without any value")
    stack = re.match(r"(encoder|decoder)/(?:\1|layers)/", name)
    if not stack:
      parts[name] = Part(array, _joined(name, array.shape))
      continue
    if len(array.shape) < 2:
      raise ValueError(
        f"{where}: {name} is {array.shape}, without the axis of layers that a "
        "scanned model has"
      )
    rest = name[stack.end() :]
    shape = array.shape[:1] + array.shape[2:]
    for layer in range(array.shape[1]):
      own = f"{stack[1]}/layers_{layer}/{rest}"
      parts[own] = Part(array, _joined(own, shape), layer)
  own = [_own_biases(parts, stack, where) for stack in _STACKS]
  # A T5 whose layers have a bias of their own has so in both stacks.
  if all(_are_equal(parts, names) for names in own):
    for stack, names in zip(_STACKS, own, strict=True):
      if names:
        parts[f"{stack}/{_BIAS}"] = parts[names[0]]
      for name in names:
        del parts[name]
  return parts


def config_of(
  shapes: Mapping[str, tuple[int, ...]], where: str, given: Mapping[str, Any]
) -> T5Config:
  """The T5 whose unscanned arrays have these shapes.

  Args:
    shapes: by name.
    where: the checkpoint, for messages.
    given: values of `OPEN_FIELDS`.

  Raises:
    ValueError: no T5 has these arrays; `given` has other fields.
  """
  unknown = sorted(given.keys() - set(OPEN_FIELDS))
  if unknown:
    raise ValueError(
      f"{unknown[0]} cannot be given: {where} tells it. Only "
      f"{', '.join(OPEN_FIELDS)} can"
    )

  def extents(name: str, count: int) -> tuple[int, ...]:
    if name not in shapes:
      raise ValueError(f"{where} is no T5 of t5x: it has no {name}")
    if len(shapes[name]) != count:
      raise ValueError(
        f"{where}: {name} must have {count} axes, is {shapes[name]}"
      )
    return shapes[name]

  vocab_size, emb_dim = extents(_EMBEDDING, 2)
  is_own = f"encoder/layers_0/{_BIAS}" in shapes
  bias = f"encoder/layers_0/{_BIAS}" if is_own else f"encoder/{_BIAS}"
  num_heads, buckets = extents(bias, 2)
  _, joined = extents("encoder/layers_0/attention/query/kernel", 2)
  if joined % num_heads:
    raise ValueError(
      f"{where}: encoder/layers_0/attention/query/kernel has {joined} columns, "
      f"which {num_heads} heads (of {bias}) do not divide"
    )
  is_gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
  wi = "wi_0" if is_gated else "wi"
  _, mlp_dim = extents(f"encoder/layers_0/mlp/{wi}/kernel", 2)
  others = dict(given)
  activations = _activations(
    is_gated, others.pop("mlp_activations", None), where
  )
  return T5Config(
    vocab_size=vocab_size,
    emb_dim=emb_dim,
    num_heads=num_heads,
    head_dim=joined // num_heads,
    mlp_dim=mlp_dim,
    num_encoder_layers=_depth(shapes, "encoder", where),
    num_decoder_layers=_depth(shapes, "decoder", where),
    logits_via_embedding=_OUTPUT not in shapes,
    mlp_activations=activations,
    relpos_buckets=buckets,
    relpos_per_layer=is_own,
    **others,
  )


def _activations(
  is_gated: bool, given: Sequence[str] | None, where: str
) -> tuple[str, ...]:
  """As given, else T5 1.1's or T5 1.0's."""
  number = 2 if is_gated else 1
  if given is None:
    return ("gelu", "linear") if is_gated else ("relu",)
  if len(given) != number:
    raise ValueError(
      f"{where} has {number} feed-forward inputs a layer; mlp_activations must "
      f"name as many, got {given!r}"
    )
  return tuple(given)


def _depth(shapes: Mapping[str, Any], stack: str, where: str) -> int:
  """Layers of a stack; that none is left out is checked where arrays load."""
  found = [re.match(rf"{stack}/layers_(\d+)/", name) for name in shapes]
  last = max((match[1] for match in found if match), key=len, default="0")
  depth = max((int(match[1][:9]) + 1 for match in found if match), default=1)
  if len(last) > 9 or depth > len(shapes):
    raise ValueError(
      f"{where} has a {stack}/layers_{max(last, str(depth - 1), key=len):.20}, "
      f"and no more than {len(shapes)} arrays"
    )
  return depth


def _joined(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) == 3 and _TO_HEADS.fullmatch(name):
    return (shape[0], shape[1] * shape[2])
  if len(shape) == 3 and _FROM_HEADS.fullmatch(name):
    return (shape[0] * shape[1], shape[2])
  return shape


def _own_biases(parts: Mapping[str, Part], stack: str, where: str) -> list[str]:
  """Names of the biases that the layers of a stack have, where it shares none.

  Raises:
    ValueError: some layers have one and others do not.
  """
  pattern = re.compile(rf"{stack}/layers_\d+/{_BIAS}")
  own = sorted(name for name in parts if pattern.fullmatch(name))
  if f"{stack}/{_BIAS}" in parts:
    return []
  depth = _depth(parts, stack, where)
  if own and len(own) != depth:
    raise ValueError(
      f"{where}: {len(own)} of the {depth} layers of the {stack} have a relative "
      "position bias of their own; all have one, as in umT5, or the stack does"
    )
  return own


def _are_equal(parts: Mapping[str, Part], names: Sequence[str]) -> bool:
  if not names:
    return True
  first = parts[names[0]].read()
  return all(np.array_equal(first, parts[name].read()) for name in names[1:])
