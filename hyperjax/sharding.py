"""Logical axis names, the rules that map them to a mesh, and shardings.

Arrays are annotated with logical names (below); `AXIS_RULES` says which mesh
axes, if any, each name is split over. The mesh has four axes, from the slowest
network to the fastest: contexts and rows are split over "replica" (slices of a
pod), "data" and "fsdp", weights over "fsdp" and, where they are wide, "tensor".
"""

import contextlib
import contextvars
import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import numpy as np
from flax import linen as nn
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hyperjax import checks

REPLICA_AXIS = "replica"
DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
TENSOR_AXIS = "tensor"
MESH_AXES = (REPLICA_AXIS, DATA_AXIS, FSDP_AXIS, TENSOR_AXIS)
_EARLIER_AXIS = "model"  # of "tensor"

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

MeshAxes = str | tuple[str, ...] | None
Rules = tuple[tuple[str, MeshAxes], ...]

# Earlier rules win where two names of one array ask for the same mesh axis, so
# activations keep their batch on "fsdp", and weights their embedding.
AXIS_RULES: Rules = (
  (BATCH, (REPLICA_AXIS, DATA_AXIS, FSDP_AXIS)),
  (VOCAB, TENSOR_AXIS),
  (MLP, TENSOR_AXIS),
  (HEADS, TENSOR_AXIS),
  (JOINED_KV, TENSOR_AXIS),
  (EMBED, FSDP_AXIS),
  (HEAD_HIDDEN, FSDP_AXIS),
  (HEAD_HIDDEN, TENSOR_AXIS),
  (KV, None),
  (LENGTH, None),
  (LAYERS, None),
  (RELPOS_BUCKETS, None),
  (SLOTS, None),
)


# One of those that programs are made for: JAX has a mesh's devices, and not what they
# are, while it traces.
_device: contextvars.ContextVar[Any] = contextvars.ContextVar(
  "device", default=None
)


def device() -> Any:
  """One of the ambient mesh's devices, or of JAX's own."""
  return _device.get() or jax.local_devices()[0]


def platform() -> str:
  """Of that device: "cpu", "gpu" or "tpu"."""
  return device().platform


@contextlib.contextmanager
def made_for(one: Any) -> Iterator[None]:
  """Within it, programs are made for devices such as this one."""
  token = _device.set(one)
  try:
    yield
  finally:
    _device.reset(token)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """`x`, sharded as the ambient rules say; `x` itself outside a mesh."""
  return spmd.with_logical_constraint(x, names)


@dataclasses.dataclass(frozen=True)
class MeshSpec:
  """How devices share out batches and weights, and the axis rules.

  `axes` has the sizes of mesh axes. Those that it does not name are 1, but
  "data", which takes the rest of the devices.
  """

  axes: Annotated[
    Mapping[str, int], checks.Entries(MESH_AXES, checks.Whole(1))
  ] = dataclasses.field(default_factory=dict)
  rules: Sequence[tuple[str, str | Sequence[str] | None]] = AXIS_RULES

  def __post_init__(self):
    if isinstance(self.axes, Mapping) and _EARLIER_AXIS in self.axes:
      raise ValueError(
        f"MeshSpec.axes has {_EARLIER_AXIS!r}: it is now {TENSOR_AXIS!r}"
      )
    checks.fields(self)
    for name, axes in self.rules:
      for axis in each_axis(axes):
        if axis not in MESH_AXES:
          is_now = f": it is now {TENSOR_AXIS!r}"
          raise ValueError(
            f"MeshSpec.rules split {name!r} over the mesh axis {axis!r}; there "
            f"are {', '.join(MESH_AXES)}"
            f"{is_now if axis == _EARLIER_AXIS else ''}"
          )

  def build(self, devices: Sequence[Any] | None = None) -> "Layout":
    """The mesh over `devices` (default: all) with these rules.

    Several slices of a pod are joined along the first axes that they divide.

    Raises:
      ValueError: the sizes are not those of so many devices.
    """
    devices = list(devices if devices is not None else jax.devices())
    mesh = Mesh(
      _arranged(self._shape(len(devices)), devices),
      MESH_AXES,
      axis_types=(jax.sharding.AxisType.Auto,) * len(MESH_AXES),
    )
    rules = tuple(
      (str(name), axes if isinstance(axes, str) else each_axis(axes) or None)
      for name, axes in self.rules
    )
    return Layout(mesh, rules)

  def _shape(self, count: int) -> tuple[int, ...]:
    """Sizes of all axes, of `count` devices."""
    named = math.prod(self.axes.values())
    if count % named or (DATA_AXIS in self.axes and named != count):
      raise ValueError(
        f"MeshSpec.axes {dict(self.axes)} take {named} devices, which must "
        f"{'be' if DATA_AXIS in self.axes else 'divide'} the {count} there are; "
        f"{self._possible(count)}"
      )
    sizes = {DATA_AXIS: count // named} | dict(self.axes)
    return tuple(sizes.get(name, 1) for name in MESH_AXES)

  def _possible(self, count: int) -> str:
    """Which axes `count` devices can have, as near to these, in words."""
    found = []
    for axis, size in self.axes.items():
      rest = {name: own for name, own in self.axes.items() if name != axis}
      room, left = divmod(count, math.prod(rest.values()))
      if left:
        continue
      sizes = [room] if DATA_AXIS in self.axes else divisors(room)
      sizes.sort(key=lambda own, size=size: abs(own - size))
      found += [dict(self.axes) | {axis: own} for own in sizes[:3]]
    found = found or [{FSDP_AXIS: own} for own in divisors(count)[-3:]]
    return f"such can be {' or '.join(map(str, found))}"


def _arranged(shape: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
  """Devices as an array of this shape, near ones along the last axes."""
  slices = len({getattr(each, "slice_index", 0) for each in devices})
  if slices == 1:
    return mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  within, across = [], []
  for size in shape:
    across.append(math.gcd(size, slices))
    within.append(size // across[-1])
    slices //= across[-1]
  return mesh_utils.create_hybrid_device_mesh(
    within, across, devices, allow_split_physical_axes=True
  )


def divisors(number: int) -> list[int]:
  """All of them, the least first."""
  return [own for own in range(1, number + 1) if number % own == 0]


def each_axis(axes: str | Sequence[str] | None) -> tuple[str, ...]:
  """The mesh axes of a rule or of an entry of a `PartitionSpec`."""
  return (axes,) if isinstance(axes, str) else tuple(axes or ())


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh with its axis rules: turns logical names into shardings."""

  mesh: Mesh
  rules: Rules

  @property
  def data_parallel(self) -> int:
    """Into how many parts a batch's contexts are split."""
    return self.parts(self.batch.spec)[0]

  def parts(self, spec: Iterable[Any]) -> list[int]:
    """Into how many parts each axis of an array is split."""
    shape = self.mesh.shape
    return [math.prod(shape[axis] for axis in each_axis(axes)) for axes in spec]

  def dividing(self, leaves: Iterable[Any]) -> str:
    """Which sizes of the axes that cut arrays unevenly would not, in words."""
    common: dict[Any, int] = {}
    for leaf in leaves:
      for axes, size in zip(leaf.sharding.spec, leaf.shape, strict=False):
        common[axes] = math.gcd(common.get(axes, self.mesh.size), size)
    return ", ".join(
      f"{' * '.join(each_axis(axes))} may be {' or '.join(map(str, divisors(most)))}"
      for axes, most in common.items()
      if most % self.parts([axes])[0]
    )

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
    with (
      made_for(self.mesh.devices.flat[0]),
      jax.set_mesh(self.mesh),
      nn.logical_axis_rules(self.rules),
    ):
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
    """A batch that every process has made whole, split by contexts."""
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
    """Leading axis as the batch's."""
    return self.sharding((BATCH,))

  @property
  def contexts(self) -> NamedSharding:
    """Second axis as the batch's: adapters, [L, C, ...]."""
    return self.sharding((None, BATCH))


def device_bytes(tree: Any) -> int:
  """Bytes of `tree` (arrays with shardings) held by its fullest device."""
  total: dict[Any, int] = {}
  for leaf in jax.tree.leaves(tree):
    shard = leaf.sharding.shard_shape(leaf.shape)
    size = int(np.prod(shard)) * leaf.dtype.itemsize
    for device in leaf.sharding.device_set:
      total[device] = total.get(device, 0) + size
  return max(total.values(), default=0)
