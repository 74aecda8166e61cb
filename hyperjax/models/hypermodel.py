"""HyperT5: reads demonstrations, writes adapters (Phang et al., 2022).

A T5 encoder reads the demonstrations; a T5 decoder without causal mask runs
over learned slot embeddings and attends to them; a head turns each slot into
its share of the adapters. One forward pass, no back-propagation.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, checks, sharding, trees
from hyperjax.models import (
  gathering,
  heads,
  quantizing,
  t5,
  t5_layers,
  t5_stacks,
)
from hyperjax.models.t5_layers import T5Config

# What the hypermodel's own T5 is: see `HyperT5Config`.
COPY, SHARED, FROZEN_ENCODER = BODIES = ("copy", "shared", "frozen_encoder")
# Settings that count with one value of another alone.
USED_WITH = {
  "body_rank": ("body", SHARED),
  "head_latent_dim": ("head", "factorised"),
}
# The last names of what the shared body has of it.
_OF_BACKBONE = (quantizing.KERNEL, quantizing.SCALE, "embedding")
# In which the T5 of a body that is not a copy may differ from the backbone.
_COMPUTED = (
  *("dtype", "param_dtype", "dropout_rate", "remat", "scan_unroll"),
  *("attention", "matmul_precision", "quantization"),
)


@dataclasses.dataclass(frozen=True)
class HyperT5Config:
  """The hypermodel's own T5, and its head.

  `body` says what it computes with:

  - "copy": a second T5, trained whole, that begins as a copy of the backbone;
  - "shared": the frozen backbone's projections and embeddings, each projection
    with a LoRA of `body_rank`; norms, position biases and slots are its own;
  - "frozen_encoder": demonstrations are encoded by the frozen backbone as it is;
    a decoder of `decoder_layers` (None: as many as the backbone) is trained, which
    begins as layers of the backbone's, evenly spaced.

  `head` is one of `heads.HEADS`; `head_latent_dim` is of the factorised one.
  `bidirectional_slots` gives later slots their own relative position buckets;
  without, T5's one-directional buckets are kept, as its checkpoint has them,
  and all later slots share bucket 0.
  """

  t5: T5Config
  head_hidden_dim: checks.Size
  bidirectional_slots: bool = False
  body: Annotated[str, checks.OneOf(BODIES)] = COPY
  body_rank: checks.Size = 16
  decoder_layers: t5_layers.NumLayers | None = None
  head: Annotated[str, checks.OneOf(heads.HEADS)] = "mlp"
  head_latent_dim: checks.Size = 32

  def __post_init__(self):
    checks.fields(self)
    if self.t5.quantization != quantizing.NONE:
      raise ValueError(
        f"HyperT5Config.t5 has quantization {self.t5.quantization!r}; a hypermodel "
        "is trained, so it must be 'none': what it has of a frozen backbone is in "
        "that one's"
      )
    if self.decoder_layers is None:
      return
    most = self.t5.num_decoder_layers
    if self.body != FROZEN_ENCODER or self.decoder_layers > most:
      raise ValueError(
        f"HyperT5Config.decoder_layers is {self.decoder_layers}; with body "
        f"{FROZEN_ENCODER!r} it may be 1 to num_decoder_layers, {most}, and with "
        f"another it must be None; body is {self.body!r}"
      )

  @property
  def stacks(self) -> T5Config:
    """Its T5, with as many decoder layers as it has."""
    if self.decoder_layers is None:
      return self.t5
    return dataclasses.replace(
      self.t5,
      num_decoder_layers=self.decoder_layers,
      scan_unroll=min(self.t5.scan_unroll, self.decoder_layers),
    )

  @property
  def changes(self) -> adapters.Spec | None:
    """What is trained of frozen projections: LoRA, its scale inside `up`."""
    if self.body != SHARED:
      return None
    mlp = ("wi",) if len(self.t5.mlp_activations) == 1 else ("wi_0", "wi_1")
    projections = ("query", "key", "value", "out", *mlp, "wo")
    return adapters.LoraSpec(self.body_rank, self.body_rank, projections)

  @property
  def reads_backbone(self) -> bool:
    """Whether it computes with the backbone's weights."""
    return self.body != COPY

  def check_fits(self, backbone: T5Config, spec: adapters.Spec) -> None:
    """Refuses a body of the backbone's weights, but other sizes.

    Raises:
      ValueError: settings differ, all are listed; or a memory is of states that
        the backbone's cross-attention does not read.
    """
    if spec.keeps_read and self.t5.emb_dim != backbone.emb_dim:
      raise ValueError(
        f"a {spec.label} holds the hypermodel's encoder states, which the backbone "
        f"reads: HyperT5Config.t5.emb_dim must be {backbone.emb_dim}, as the "
        f"backbone's, got {self.t5.emb_dim}"
      )
    if not self.reads_backbone:
      return
    wrong = [
      f"{field.name} {getattr(self.t5, field.name)!r}, not "
      f"{getattr(backbone, field.name)!r}"
      for field in dataclasses.fields(T5Config)
      if field.name not in _COMPUTED
      and getattr(self.t5, field.name) != getattr(backbone, field.name)
    ]
    if wrong:
      raise ValueError(
        f"HyperT5Config.body is {self.body!r}, whose T5 is the backbone; "
        f"HyperT5Config.t5 has {', '.join(wrong)}"
      )


class HyperT5(nn.Module):
  """Writes the adapters of `spec` for `backbone` from demonstrations."""

  config: HyperT5Config
  spec: adapters.Spec
  backbone: T5Config

  def setup(self):
    config = self.config.stacks
    self.token_embedder = t5.embed_tokens(config)
    own, encoder = config, config
    if self.config.reads_backbone:  # its weights are as they are
      frozen = self.backbone.quantization
      encoder = dataclasses.replace(config, quantization=frozen)
    if self.config.body == SHARED:
      own = encoder
    if self.config.body == FROZEN_ENCODER:  # without dropout
      encoder = dataclasses.replace(encoder, dropout_rate=0.0)
    self.encoder = t5_stacks.Encoder(encoder)
    if self.spec.num_slots:
      # As large as token embeddings, in whose place they stand.
      self.slots = t5_layers.parameter(
        self,
        "slots",
        nn.initializers.normal(1.0),
        (sharding.SLOTS, sharding.EMBED),
        (self.spec.num_slots, config.emb_dim),
        config.param_dtype,
      )
      self.decoder = t5_stacks.Decoder(
        own,
        causal=False,
        bidirectional=self.config.bidirectional_slots,
        has_logits=False,
      )
    if self.config.changes is not None:
      has_decoder = self.spec.num_slots > 0
      self.lora = _Trained(self.config.changes, config, has_decoder)
    self.head = head(self.config, self.spec, self.backbone)

  def __call__(self, demonstrations: jax.Array) -> adapters.Adapters:
    """Adapters of C contexts, from their demonstrations.

    Args:
      demonstrations: token ids, 0 is padding: [C, S], joined in one sequence,
        or [C, N, S], each read by itself and joined for cross-attention.
    """
    return self.write(*self.encode(demonstrations))

  def encode(self, demonstrations: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The encoder's output [C, S, D], separate rows joined, and its mask.

    Nothing after it tells in which row or order a position was read, so outputs
    of demonstrations encoded separately may be joined later, too.
    """
    contexts = len(demonstrations)
    tokens_NS = demonstrations.reshape(-1, demonstrations.shape[-1])
    mask_NS = tokens_NS != self.config.t5.pad_id
    encoded_NSD = self.encoder(
      self.token_embedder(tokens_NS), mask_NS, self._changes().encoder
    )
    encoded_CSD = encoded_NSD.reshape(contexts, -1, encoded_NSD.shape[-1])
    return encoded_CSD, mask_NS.reshape(contexts, -1)

  def write(
    self, encoded_CSD: jax.Array, mask_CS: jax.Array
  ) -> adapters.Adapters:
    """Adapters of C contexts, from what `encode` gave of their demonstrations."""
    read = heads.Read(encoded_CSD, mask_CS)
    if not self.spec.num_slots:
      return self.head(None, read)
    slots_CPD = jnp.broadcast_to(
      gathering.gathered(
        self.slots, encoded_CSD.dtype, (sharding.SLOTS, sharding.EMBED)
      ),
      (len(encoded_CSD), *self.slots.shape),
    )
    slots_CPD = self.decoder(
      slots_CPD, encoded_CSD, mask_CS, self._changes().decoder
    )
    return self.head(slots_CPD, read)

  def _changes(self) -> adapters.Adapters:
    """What it changes of frozen projections."""
    return t5.NO_ADAPTERS if self.config.changes is None else self.lora()


class _Trained(nn.Module):
  """Adapters of a spec as parameters, of one context for all rows."""

  spec: adapters.Spec
  config: T5Config
  has_decoder: bool

  @nn.compact
  def __call__(self) -> adapters.Adapters:
    leaves = changed(self.spec, self.config, self.has_decoder)
    found = [
      self._made(path, leaf)
      for path, leaf in adapters.path_leaves(leaves).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(leaves), found)

  def _made(self, path: str, leaf: adapters.Leaf) -> jax.Array:
    names = leaf.parameter_axes
    value = t5_layers.parameter(
      self,
      path,
      nn.initializers.normal(leaf.stddev),
      names,
      leaf.shape,
      self.config.param_dtype,
    )
    return gathering.gathered(value, self.config.dtype, names)


def changed(
  spec: adapters.Spec, config: T5Config, has_decoder: bool
) -> adapters.Adapters:
  """The leaves of a spec, those of the encoder alone where there is no decoder."""
  leaves = spec.leaves(config)
  return leaves if has_decoder else adapters.Adapters(encoder=leaves.encoder)


def head(
  config: HyperT5Config, spec: adapters.Spec, backbone: T5Config
) -> heads.AdapterHead:
  """The head of a hypermodel that writes `spec` for `backbone`."""
  more: dict[str, Any] = {}
  if config.head == "factorised":
    more["latent_dim"] = config.head_latent_dim
  kind = heads.HEADS[config.head]
  return kind(spec, backbone, config.t5, config.head_hidden_dim, **more)


def own(config: HyperT5Config, params: Any) -> dict[str, Any]:
  """Those parameters of a hypermodel that are not the backbone's."""
  flat = trees.flatten(params)
  return trees.unflatten(
    {path: x for path, x in flat.items() if not is_backbones(config, path)}
  )


def whole(config: HyperT5Config, params: Any, backbone: Any) -> dict[str, Any]:
  """A hypermodel's own parameters, with those that are the backbone's."""
  taken = {
    path: x
    for path, x in trees.flatten(backbone).items()
    if is_backbones(config, path)
  }
  return trees.unflatten(trees.flatten(params) | taken)


def is_backbones(config: HyperT5Config, path: str) -> bool:
  """Whether a parameter of a T5 is the frozen backbone's and the hypermodel's."""
  part, name = path.split("/")[0], path.rpartition("/")[2]
  if config.body == FROZEN_ENCODER:
    return part in ("token_embedder", "encoder")
  of_t5 = part in ("token_embedder", "encoder", "decoder")
  is_shared = of_t5 and "/logits_dense/" not in path
  return config.body == SHARED and is_shared and name in _OF_BACKBONE
