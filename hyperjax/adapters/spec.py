"""The contract of adapters: the tree, its arrays, and what a kind owes.

Adapters are one plain tree of arrays, the same whether a hypermodel wrote
them, training from scratch found them, or a file holds them. Leaves are
`[L, C or 1, ...]`: layer, then context; an axis of 1 serves every context. What is
of no layer has L = 1, and stands beside the stacks.
`nn.scan` over layers hands each layer `[C or 1, ...]`. What is absent is None.

A kind of adapter is one file with two classes. Its `Node` holds the arrays at
one place of the T5 and does all arithmetic with them. Its `Spec` says which
places of a given T5 get one, and names it. To the T5 a kind adds a field for
each place below, and a line at the site that applies it (models/t5_layers.py).
Everyone else walks the tree, or asks the node or the spec.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import arrays

# What a masked attention logit gets; finite, so that a row without any visible
# position stays finite too.
MASKED = -1e10

ATTENTION_SITES = (
  "encoder.attention",
  "decoder.self_attention",
  "decoder.encoder_decoder_attention",
)
MLP_SITES = ("encoder.mlp", "decoder.mlp")
Sites = Annotated[Sequence[str], checks.Some(ATTENTION_SITES, 1)]


class Backbone(Protocol):
  """The sizes of a T5 that adapters depend on (`models.t5_layers.T5Config`)."""

  @property
  def emb_dim(self) -> int: ...
  @property
  def num_heads(self) -> int: ...
  @property
  def head_dim(self) -> int: ...
  @property
  def mlp_dim(self) -> int: ...
  @property
  def num_encoder_layers(self) -> int: ...
  @property
  def num_decoder_layers(self) -> int: ...
  @property
  def mlp_activations(self) -> Sequence[str]: ...


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One array of an adapter tree, before it exists.

  `mean` and `stddev` are those of its untrained values: what a fresh head
  writes, and what training from random values starts with. A head multiplies
  what it writes by `scale`. The axis named SLOTS has one entry for each slot of
  the hypermodel, or for the first of them, that named LENGTH one for each position
  that it reads; of a leaf with neither all slots write together.
  """

  shape: tuple[int, ...]  # context axis is 1
  axes: tuple[str, ...]
  stddev: float
  scale: float = 1.0
  mean: float = 0.0

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def parameter_axes(self) -> tuple[str | None, ...]:
    """The axes of one trained for all contexts, which every device has."""
    return tuple(None if x == sharding.BATCH else x for x in self.axes)


class Node(abc.ABC):
  """Arrays of a kind at one place of a T5, and what is done with them.

  A frozen dataclass of arrays (`flax.struct`), or of their leaves. Whatever is
  not for a site's use takes and gives arrays of the host, and meets nodes of its
  own kind only.
  """

  # Each array's value that changes nothing: what a row has that has no such
  # adapter, and what fewer slots are filled up with.
  neutral: ClassVar[Mapping[str, Any]]

  @abc.abstractmethod
  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """What a site of one layer computes with it, given what it changes.

    Rows of a context are contiguous: row b of B meets context b // (B // C).
    """

  def flops(self, positions: int, config: Backbone) -> int:
    """Of the matrix products that it adds for a row, in all its layers.

    Asked of a node of leaves; `positions` are those that its site works on.
    """
    del positions, config
    return 0

  def context_flops(self, config: Backbone) -> int:
    """Of those that it adds once for all rows of a context."""
    del config
    return 0

  @classmethod
  def stack(cls, given: Sequence[Any], contexts: Sequence[int]) -> Self:
    """The contexts of all side by side, each as it acts alone.

    Args:
      given: what each has; None has none, slots may differ in number.
      contexts: how many each has.
    """
    return cls(
      **{
        name: arrays.stacked(
          [x and getattr(x, name) for x in given], contexts, value
        )
        for name, value in cls.neutral.items()
        if any(x and getattr(x, name) is not None for x in given)
      }
    )

  @classmethod
  def mean(cls, given: Sequence[Any], weights: Sequence[float]) -> Self:
    """What acts as the weighted mean of what all do, exactly.

    Where only sums of slots can do that, it has the slots of all.
    """
    return jax.tree.map(lambda *own: arrays.weighted(own, weights), *given)

  def cut(self, num_slots: int) -> tuple[Any, float, float]:
    """The nearest with `num_slots`, for those kinds whose means have more.

    And two squared norms: of what is left out, and of the whole.
    """
    del num_slots
    return self, 0.0, 0.0

  def distance(self, other: Any) -> float:
    """Relative difference of what the two do, in all layers together."""
    found = [0.0]
    for name, value in self.neutral.items():
      if getattr(self, name) is None:
        continue
      own, its = (getattr(x, name).astype(np.float64) for x in (self, other))
      found.append(
        arrays.ratio(np.linalg.norm(own - its), np.linalg.norm(own - value))
      )
    return max(found)

  def kernel(self, place: str) -> str:
    """The path of the kernel that it changes, from where it stands.

    Raises:
      ValueError: it changes none.
    """
    raise ValueError(f"{place} is no change of a kernel: none can carry it")

  def merged(self, kernel: np.ndarray) -> np.ndarray:
    """That kernel with the change in it, in float32; of one layer and context."""
    raise NotImplementedError

  def peft(self, module: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The `peft` library's settings for it, and its arrays by their names there.

    Lists in settings are of modules, and mappings by them; both are joined over
    nodes. Of one layer and context; no arrays where it changes nothing.
    """
    raise NotImplementedError


# Fields stand in the order in which they act, where several change one kernel.
@struct.dataclass
class AttentionAdapter:
  prefix: Any = None  # Prefix
  query: Any = None  # Lora
  key: Any = None
  value: Any = None
  out: Any = None
  ia3_key: Any = None  # OutputScale
  ia3_value: Any = None


@struct.dataclass
class MlpAdapter:
  wi: Any = None  # Lora
  wi_0: Any = None
  wi_1: Any = None
  wo: Any = None
  ia3_wo: Any = None  # InputScale


@struct.dataclass
class EncoderAdapter:
  attention: AttentionAdapter = AttentionAdapter()
  mlp: MlpAdapter = MlpAdapter()


@struct.dataclass
class DecoderAdapter:
  self_attention: AttentionAdapter = AttentionAdapter()
  encoder_decoder_attention: AttentionAdapter = AttentionAdapter()
  mlp: MlpAdapter = MlpAdapter()


@struct.dataclass
class Adapters:
  """Everything written for a T5, stacked over layers; empty = the plain T5.

  Field names are those of the backbone's parameters (t5x's), so that the path
  of an adapter is the path of what it changes.
  """

  encoder: EncoderAdapter = EncoderAdapter()
  decoder: DecoderAdapter = DecoderAdapter()
  memory: Any = None  # Memory, beside the encoder's output; of no layer


class Spec(abc.ABC):
  """Which adapters of a kind a T5 gets: a frozen dataclass of plain values."""

  def __post_init__(self):
    checks.fields(self)

  @property
  def not_exported(self) -> Mapping[str, str]:
    """Of the forms of `hyperjax export`, those that cannot hold it, and why."""
    return {}

  @property
  @abc.abstractmethod
  def label(self) -> str:
    """Kind and size, in words."""

  @property
  @abc.abstractmethod
  def num_slots(self) -> int:
    """Decoder positions of the hypermodel; 0 where its decoder writes nothing."""

  @property
  def most_read(self) -> int | None:
    """Tokens of demonstrations at most of which it is made; None of any number."""
    return None

  @property
  def keeps_read(self) -> bool:
    """Whether it has a position for each token read: no weights make a mean of such."""
    return self.most_read is not None

  def has_room(self, read: int) -> bool:
    """Whether it can be made of so many tokens of demonstrations."""
    return self.most_read is None or read <= self.most_read

  @abc.abstractmethod
  def leaves(self, config: Backbone) -> Adapters:
    """The tree of `Leaf`."""

  def mean_of(self, others: "Sequence[Spec]", config: Backbone) -> "Spec":
    """That of the mean of an adapter of this and of one of each of `others`.

    Raises:
      ValueError: they have no mean.
    """
    del config
    for other in others:
      if other != self:
        raise ValueError(f"{self} and {other} have no mean")
    return self

  def abstract(
    self, config: Backbone, contexts: int = 1, dtype: Any = jnp.float32
  ) -> Adapters:
    """The tree of `ShapeDtypeStruct`, for `contexts` contexts."""

    def struct_of(leaf: Leaf):
      shape = list(leaf.shape)
      shape[leaf.axes.index(sharding.BATCH)] = contexts
      return jax.ShapeDtypeStruct(tuple(shape), dtype)

    return jax.tree.map(struct_of, self.leaves(config))

  def filled(self, config: Backbone, value: float) -> Adapters:
    """Arrays of the host of one context, float32, that hold `value` throughout."""
    return jax.tree.map(
      lambda x: np.full(x.shape, value, np.float32), self.abstract(config)
    )

  def axes(self, config: Backbone) -> Adapters:
    """The tree of `PartitionSpec`s of logical axis names."""
    return jax.tree.map(
      lambda leaf: jax.sharding.PartitionSpec(*leaf.axes), self.leaves(config)
    )


def assemble(nodes: Mapping[str, Any]) -> Adapters:
  """The tree whose node at each dotted path is as given."""
  adapters = Adapters()
  for path, node in nodes.items():
    adapters = _placed(adapters, path, node)
  return adapters


def _placed(tree: Any, path: str, node: Any) -> Any:
  """A tree with a node at a path."""
  name, _, rest = path.partition(".")
  if rest:
    node = _placed(getattr(tree, name), rest, node)
  return dataclasses.replace(tree, **{name: node})


def nodes(adapters: Adapters) -> dict[str, Node]:
  """What stands at each place, by dotted path."""
  return by_path(adapters, lambda x: isinstance(x, Node))


def by_path(adapters: Adapters, is_leaf: Any = None) -> dict[str, Any]:
  """Leaves of a tree by dotted path."""
  paths, _ = jax.tree_util.tree_flatten_with_path(adapters, is_leaf)
  return {
    ".".join(str(getattr(key, "name", key)) for key in path): leaf
    for path, leaf in paths
  }


def num_layers(config: Backbone, site: str) -> int:
  if site.startswith("encoder"):
    return config.num_encoder_layers
  return config.num_decoder_layers
