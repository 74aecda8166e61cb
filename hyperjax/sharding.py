"""Logical axis names, the rules that map them to a mesh, and shardings.

Arrays are annotated with logical names (below); `AXIS_RULES` says which mesh
axis, if any, each name is split over. The mesh has two axes: "data" splits
contexts and rows, "model" splits wide weights, as in t5x.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.linen import spmd
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hyperjax import checks

DATA_AXIS = "data"
MODEL_AXIS = "model"

BATCH = "batch"  # contexts and rows
LENGTH = "length"
EMBED = "embed"
HEADS = "heads"
KV = "kv"
JOINED_KV = "joined_kv"
MLP = "mlp"
VOCAB = "vocab"
LAYERS = "layers"
RELPOS_BUCKETS = "relpos_buckets"
SLOTS = "slots"  # prefix positions, LoRA rank components
HEAD_HIDDEN = "head_hidden"  # hidden layer of the hypermodel's heads

Rules = tuple[tuple[str, str | None], ...]

# Earlier rules win where two names of one array ask for the same mesh axis.
AXIS_RULES: Rules = (
  (BATCH, DATA_AXIS),
  (VOCAB, MODEL_AXIS),
  (MLP, MODEL_AXIS),
  (HEADS, MODEL_AXIS),
  (JOINED_KV, MODEL_AXIS),
  (HEAD_HIDDEN, MODEL_AXIS),
  (EMBED, None),
  (KV, None),
  (LENGTH, None),
  (LAYERS, None),
  (RELPOS_BUCKETS, None),
  (SLOTS, None),
)

# As above, with weights and optimizer state also split over the data axis
# (ZeRO stage 3): activations keep their batch on it, since that rule is first.
FULLY_SHARDED_RULES: Rules = tuple(
  (name, DATA_AXIS if name in (EMBED, HEAD_HIDDEN) else axis)
  for name, axis in AXIS_RULES
)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """`x`, sharded as the ambient rules say; `x` itself outside a mesh."""
  return spmd.with_logical_constraint(x, names)


@dataclasses.dataclass(frozen=True)
class MeshSpec:
  """How many devices share one copy of the model, and the axis rules.

  `model_parallel` devices hold one copy between them; all the others repeat it
  over different contexts.
  """

  model_parallel: checks.Count = 1
  rules: Sequence[Sequence[str | None]] = AXIS_RULES

  def __post_init__(self):
    checks.fields(self)

  def build(self, devices: Sequence[Any] | None = None) -> "Layout":
    """The mesh over `devices` (default: all) with these rules.

    Raises:
      ValueError: `model_parallel` does not divide the number of devices.
    """
    devices = list(devices if devices is not None else jax.devices())
    if len(devices) % self.model_parallel:
      raise ValueError(
        f"MeshSpec.model_parallel is {self.model_parallel}; it must divide "
        f"the number of devices, {len(devices)}"
      )
    shape = (len(devices) // self.model_parallel, self.model_parallel)
    mesh = jax.make_mesh(
      shape,
      (DATA_AXIS, MODEL_AXIS),
      axis_types=(jax.sharding.AxisType.Auto,) * 2,
      devices=devices,
    )
    rules = tuple((str(name), axis) for name, axis in self.rules)
    return Layout(mesh, rules)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh with its axis rules: turns logical names into shardings."""

  mesh: Mesh
  rules: Rules

  @property
  def data_parallel(self) -> int:
    """Into how many parts a batch's contexts are split."""
    return self.mesh.shape[DATA_AXIS]

  def own_contexts(self, num_contexts: int) -> list[int]:
    """Which contexts of a batch this process's devices hold, in order.

    Processes whose devices share a copy of the model hold the same ones.
    """
    held = self.batch.addressable_devices_indices_map((num_contexts,))
    own: set[int] = set()
    for index in held.values():
      assert index is not None  # addressable devices have one
      own |= set(range(num_contexts)[index[0]])
    return sorted(own)

  @contextlib.contextmanager
  def activate(self) -> Iterator[None]:
    """Within it, `constrain` places arrays on this mesh."""
    with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.rules):
      yield

  def sharding(self, names: Sequence[str | None]) -> NamedSharding:
    """Where an array with these logical axes lives.

    Raises:
      ValueError: an axis name has no rule.
    """
    known = [name for name, _ in self.rules]
    for name in names:
      if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
          f"logical axis {name!r} has no rule in MeshSpec.rules, which knows "
          f"{', '.join(sorted(set(known)))}{hint}"
        )
    return NamedSharding(
      self.mesh,
      spmd.logical_to_mesh_axes(tuple(names), self.rules) or PartitionSpec(),
    )

  def place(self, whole: Any) -> Any:
    """A batch that every process has made whole, split over the data axis."""
    return jax.tree.map(
      lambda x: jax.make_array_from_callback(
        x.shape, self.batch, lambda index: x[index]
      ),
      whole,
    )

  def place_own(self, own: Any) -> Any:
    """A batch of which this process has made its `own_contexts` alone."""
    return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(self.batch, x), own
    )

  def padded(self, count: int) -> int:
    """The least number of contexts, from `count` on, that the mesh divides."""
    return -(-count // self.data_parallel) * self.data_parallel

  def tree(self, specs: Any) -> Any:
    """Shardings of a tree of `PartitionSpec`s of logical axis names."""
    return jax.tree.map(
      self.sharding, specs, is_leaf=lambda x: isinstance(x, PartitionSpec)
    )

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def batch(self) -> NamedSharding:
    """Leading axis over the data axis."""
    return NamedSharding(self.mesh, PartitionSpec(DATA_AXIS))

  @property
  def contexts(self) -> NamedSharding:
    """Second axis over the data axis: adapters, [L, C, ...]."""
    return NamedSharding(self.mesh, PartitionSpec(None, DATA_AXIS))


def device_bytes(tree: Any) -> int:
  """Bytes of `tree` (arrays with shardings) held by its fullest device."""
  total: dict[Any, int] = {}
  for leaf in jax.tree.leaves(tree):
    shard = leaf.sharding.shard_shape(leaf.shape)
    size = int(np.prod(shard)) * leaf.dtype.itemsize
    for device in leaf.sharding.device_set:
      total[device] = total.get(device, 0) + size
  return max(total.values(), default=0)
