"""The adapter contract: which arrays exist, how they act, how they merge.

Adapters are one plain tree of arrays, the same whether a hypermodel wrote
them, training from scratch found them, or a file holds them. Leaves are
`[L, C or 1, ...]`: layer, then context; an axis of 1 serves every context.
`nn.scan` over layers hands each layer `[C or 1, ...]`. What is absent is None.

A spec (`PrefixSpec`, `LoraSpec`) describes the tree for a given T5; heads,
sharding, training and export walk that description and never name a leaf.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from hyperjax import checks, sharding, trees


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


@struct.dataclass
class Prefix:
  """Keys and values put in front of a site's own (Li and Liang, 2021).

  They get no relative position bias and are visible from every position.
  """

  key: Any  # [*L, C or 1, P, H, K]
  value: Any  # [*L, C or 1, P, H, K]

  def __call__(
    self, key_BSHK: jax.Array, value_BSHK: jax.Array, bias_BHTS: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys, values and bias of one layer with the prefix in front.

    Attention wants one key array, so a prefix is copied to each row of its
    context; splitting the attention logits instead moves more bytes.
    """
    rows, length = len(key_BSHK), self.key.shape[1]

    def extend(prefix_CPHK, rows_BSHK):
      prefix_BPHK = _per_row(prefix_CPHK.astype(rows_BSHK.dtype), rows)
      return jnp.concatenate([prefix_BPHK, rows_BSHK], axis=1)

    bias_BHTS = jnp.pad(bias_BHTS, ((0, 0), (0, 0), (0, 0), (length, 0)))
    return extend(self.key, key_BSHK), extend(self.value, value_BSHK), bias_BHTS


@struct.dataclass
class Lora:
  """A low-rank update of one projection (Hu et al., 2021).

  The scale is already inside `up`.
  """

  down: Any  # [*L, C or 1, in, R]
  up: Any  # [*L, C or 1, R, out]

  def __call__(self, x_BTD: jax.Array) -> jax.Array:
    """Rows of a context are contiguous, so they share its matrices unexpanded."""
    contexts, width = len(self.down), x_BTD.shape[-1]
    x_CND = x_BTD.reshape(contexts, -1, width)
    y_CNF = x_CND @ self.down.astype(x_BTD.dtype) @ self.up.astype(x_BTD.dtype)
    return y_CNF.reshape(*x_BTD.shape[:-1], -1)


@struct.dataclass
class AttentionAdapter:
  prefix: Prefix | None = None
  query: Lora | None = None
  key: Lora | None = None
  value: Lora | None = None
  out: Lora | None = None


@struct.dataclass
class MlpAdapter:
  wi: Lora | None = None
  wi_0: Lora | None = None
  wi_1: Lora | None = None
  wo: Lora | None = None


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


ATTENTION_SITES = (
  "encoder.attention",
  "decoder.self_attention",
  "decoder.encoder_decoder_attention",
)
ATTENTION_PROJECTIONS = ("query", "key", "value", "out")
MLP_PROJECTIONS = ("wi", "wi_0", "wi_1", "wo")


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One array of an adapter tree, before it exists.

  `stddev` is the spread of its untrained values: what a fresh head writes, and
  what training from random values starts with. Zero where the method wants it.
  A head multiplies what it writes by `scale`.
  """

  shape: tuple[int, ...]  # context axis is 1
  axes: tuple[str, ...]
  stddev: float
  scale: float = 1.0


class Spec(abc.ABC):
  """Which adapters a T5 gets; a new kind says its slots and its leaves."""

  @property
  @abc.abstractmethod
  def num_slots(self) -> int:
    """Decoder positions of the hypermodel: one per prefix position or rank."""

  @abc.abstractmethod
  def leaves(self, config: Backbone) -> Adapters:
    """The tree of `Leaf`."""

  def abstract(
    self, config: Backbone, contexts: int = 1, dtype: Any = jnp.float32
  ) -> Adapters:
    """The tree of `ShapeDtypeStruct`, for `contexts` contexts."""

    def struct_of(leaf: Leaf):
      shape = list(leaf.shape)
      shape[leaf.axes.index(sharding.BATCH)] = contexts
      return jax.ShapeDtypeStruct(tuple(shape), dtype)

    return jax.tree.map(struct_of, self.leaves(config))

  def axes(self, config: Backbone) -> Adapters:
    """The tree of `PartitionSpec`s of logical axis names."""
    return jax.tree.map(
      lambda leaf: jax.sharding.PartitionSpec(*leaf.axes), self.leaves(config)
    )


@dataclasses.dataclass(frozen=True)
class PrefixSpec(Spec):
  """Soft prefixes of `length` positions at attention sites.

  HyperTuning (Phang et al., 2022) writes them for encoder and decoder
  self-attention; whether for cross-attention too is open, so it is a choice.
  """

  length: int
  sites: Sequence[str] = ATTENTION_SITES
  key_stddev: float = 1.0
  value_stddev: float = 0.1

  def __post_init__(self):
    checks.whole("PrefixSpec.length", self.length, 1)
    _check_names("PrefixSpec.sites", self.sites, ATTENTION_SITES)

  @property
  def num_slots(self) -> int:
    return self.length

  def leaves(self, config: Backbone) -> Adapters:
    tree = {}
    for site in self.sites:
      shape = (
        _num_layers(config, site),
        1,
        self.length,
        config.num_heads,
        config.head_dim,
      )
      axes = (
        sharding.LAYERS,
        sharding.BATCH,
        sharding.SLOTS,
        sharding.HEADS,
        sharding.KV,
      )
      tree[f"{site}.prefix"] = Prefix(
        key=Leaf(shape, axes, self.key_stddev),
        value=Leaf(shape, axes, self.value_stddev),
      )
    return _assemble(tree)


@dataclasses.dataclass(frozen=True)
class LoraSpec(Spec):
  """Low-rank updates of projections, scaled by `alpha / rank`.

  `up` starts at zero, so that an untrained hypermodel leaves the backbone as
  it is. Feed-forward projections are taken at every layer once named.
  """

  rank: int
  alpha: float = 16.0
  projections: Sequence[str] = ("query", "value")
  sites: Sequence[str] = ATTENTION_SITES

  def __post_init__(self):
    checks.whole("LoraSpec.rank", self.rank, 1)
    _check_names("LoraSpec.sites", self.sites, ATTENTION_SITES)
    _check_names(
      "LoraSpec.projections",
      self.projections,
      ATTENTION_PROJECTIONS + MLP_PROJECTIONS,
    )

  @property
  def num_slots(self) -> int:
    return self.rank

  def leaves(self, config: Backbone) -> Adapters:
    joined = config.num_heads * config.head_dim
    embed = (config.emb_dim, sharding.EMBED)
    heads = (joined, sharding.JOINED_KV)
    mlp = (config.mlp_dim, sharding.MLP)
    ends = dict.fromkeys(("query", "key", "value"), (embed, heads))
    ends |= {"out": (heads, embed), "wo": (mlp, embed)}
    ends |= dict.fromkeys(("wi", "wi_0", "wi_1"), (embed, mlp))
    mlp_names = _mlp_projections(config)
    missing = set(self.projections) & set(MLP_PROJECTIONS) - set(mlp_names)
    if missing:
      raise ValueError(
        f"LoraSpec.projections names {', '.join(sorted(missing))}, but a "
        f"feed-forward of {'/'.join(config.mlp_activations)} has only "
        f"{', '.join(mlp_names)}"
      )
    tree = {}
    for name in self.projections:
      sites = self.sites
      if name in MLP_PROJECTIONS:
        sites = ("encoder.mlp", "decoder.mlp")
      for site in sites:
        tree[f"{site}.{name}"] = self._lora(
          _num_layers(config, site), *ends[name]
        )
    return _assemble(tree)

  def _lora(self, num_layers: int, fan_in, fan_out) -> Lora:
    return Lora(
      down=Leaf(
        (num_layers, 1, fan_in[0], self.rank),
        (sharding.LAYERS, sharding.BATCH, fan_in[1], sharding.SLOTS),
        1 / math.sqrt(fan_in[0]),
      ),
      up=Leaf(
        (num_layers, 1, self.rank, fan_out[0]),
        (sharding.LAYERS, sharding.BATCH, sharding.SLOTS, fan_out[1]),
        0.0,
        self.alpha / self.rank,
      ),
    )


# Every kind there is: files name a spec by its class.
SPECS: tuple[type[Spec], ...] = (PrefixSpec, LoraSpec)


def num_contexts(adapters: Adapters) -> int | None:
  """C, or None where `adapters` is empty."""
  leaves = jax.tree.leaves(adapters)
  return leaves[0].shape[1] if leaves else None


def path_leaves(adapters: Adapters) -> dict[str, Any]:
  """Leaves by dotted path, such as "encoder.attention.query.down"."""
  paths, _ = jax.tree_util.tree_flatten_with_path(adapters)
  return {
    ".".join(str(getattr(key, "name", key)) for key in path): leaf
    for path, leaf in paths
  }


def as_params(adapters: Any) -> dict[str, Any]:
  """Leaves as nested dictionaries, each beside the parameter that it changes.

  "encoder/layers/attention/query/down", where the T5 has
  "encoder/layers/attention/query/kernel".
  """
  return trees.unflatten(
    {_param_path(path): leaf for path, leaf in path_leaves(adapters).items()}
  )


def from_params(params: dict[str, Any], like: Adapters) -> Adapters:
  """The adapters that `as_params` was given, of the structure of `like`."""
  flat = trees.flatten(params)
  leaves = [flat[_param_path(path)] for path in path_leaves(like)]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def merge_lora(params: dict[str, Any], adapters: Adapters) -> dict[str, Any]:
  """T5 `params` with every LoRA of a single context added to its kernel.

  The sum is taken in float32, then stored in the kernel's own dtype.

  Raises:
    ValueError: the adapters hold several contexts or prefixes, which no kernel
      can carry.
  """
  if num_contexts(adapters) not in (None, 1):
    raise ValueError(
      "merge_lora takes adapters of one context, these have "
      f"{num_contexts(adapters)}"
    )
  kernels = trees.flatten(params)
  leaves = path_leaves(adapters)
  for path, down_LDR in leaves.items():
    *site, kind = path.split(".")
    if kind in ("key", "value") and site[-1] == "prefix":
      raise ValueError(f"merge_lora cannot merge the prefix at {path}")
    if kind != "down":
      continue
    up_LRF = leaves[path.removesuffix("down") + "up"]
    name = _param_path(path.removesuffix("down") + "kernel")
    kernel = kernels[name]
    update = jnp.einsum(
      "ldr,lrf->ldf",
      down_LDR[:, 0].astype(jnp.float32),
      up_LRF[:, 0].astype(jnp.float32),
    )
    merged = kernel.astype(jnp.float32) + update
    kernels[name] = merged.astype(kernel.dtype)
  return trees.unflatten(kernels)


def _param_path(path: str) -> str:
  stack, *rest = path.split(".")
  return "/".join((stack, "layers", *rest))


def _per_row(x_C: jax.Array, rows: int) -> jax.Array:
  """Each context's array, repeated for its contiguous rows."""
  contexts, *rest = x_C.shape
  x_CG = jnp.broadcast_to(x_C[:, None], (contexts, rows // contexts, *rest))
  return x_CG.reshape(rows, *rest)


def _assemble(leaves: dict[str, Any]) -> Adapters:
  """The tree whose node at each dotted path is as given."""
  adapters = Adapters()
  for path, node in leaves.items():
    stack_name, site_name, name = path.split(".")
    stack = getattr(adapters, stack_name)
    site = getattr(stack, site_name)
    site = dataclasses.replace(site, **{name: node})
    stack = dataclasses.replace(stack, **{site_name: site})
    adapters = dataclasses.replace(adapters, **{stack_name: stack})
  return adapters


def _num_layers(config: Backbone, site: str) -> int:
  if site.startswith("encoder"):
    return config.num_encoder_layers
  return config.num_decoder_layers


def _mlp_projections(config: Backbone) -> tuple[str, ...]:
  if len(config.mlp_activations) == 1:
    return ("wi", "wo")
  return ("wi_0", "wi_1", "wo")


def _check_names(name: str, values: Sequence[str], known: Sequence[str]):
  unknown = [value for value in values if value not in known]
  if isinstance(values, str) or unknown or not values:
    raise ValueError(
      f"{name} takes one or more of {', '.join(known)}; got {values!r}"
    )
