"""HyperT5: reads demonstrations, writes adapters (Phang et al., 2022).

A T5 encoder reads the demonstrations; a T5 decoder without causal mask runs
over learned slot embeddings and attends to them; a head turns each slot into
its share of the adapters. One forward pass, no back-propagation.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, checks, sharding
from hyperjax.models import gathering, heads, t5, t5_layers, t5_stacks
from hyperjax.models.t5_layers import T5Config


@dataclasses.dataclass(frozen=True)
class HyperT5Config:
  """The hypermodel's own T5, and its head.

  `bidirectional_slots` gives later slots their own relative position buckets;
  without, T5's one-directional buckets are kept, as its checkpoint has them,
  and all later slots share bucket 0.
  """

  t5: T5Config
  head_hidden_dim: checks.Size
  bidirectional_slots: bool = False

  def __post_init__(self):
    checks.fields(self)


class HyperT5(nn.Module):
  """Writes the adapters of `spec` for `backbone` from demonstrations."""

  config: HyperT5Config
  spec: adapters.Spec
  backbone: T5Config

  def setup(self):
    config = self.config.t5
    self.token_embedder = t5.embed_tokens(config)
    self.encoder = t5_stacks.Encoder(config)
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
      config,
      causal=False,
      bidirectional=self.config.bidirectional_slots,
      has_logits=False,
    )
    self.head = heads.AdapterHead(
      self.spec, self.backbone, config, self.config.head_hidden_dim
    )

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
      self.token_embedder(tokens_NS), mask_NS, adapters.Adapters().encoder
    )
    encoded_CSD = encoded_NSD.reshape(contexts, -1, encoded_NSD.shape[-1])
    return encoded_CSD, mask_NS.reshape(contexts, -1)

  def write(
    self, encoded_CSD: jax.Array, mask_CS: jax.Array
  ) -> adapters.Adapters:
    """Adapters of C contexts, from what `encode` gave of their demonstrations."""
    slots_CPD = jnp.broadcast_to(
      gathering.gathered(
        self.slots, encoded_CSD.dtype, (sharding.SLOTS, sharding.EMBED)
      ),
      (len(encoded_CSD), *self.slots.shape),
    )
    slots_CPD = self.decoder(
      slots_CPD, encoded_CSD, mask_CS, adapters.Adapters().decoder
    )
    return self.head(slots_CPD)
