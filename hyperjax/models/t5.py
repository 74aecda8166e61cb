"""T5 (Raffel et al., 2020) and its relatives, steered by adapters.

T5 1.0 and 1.1, Flan-T5, mT5, umT5, ByT5, CodeT5 and others differ in `T5Config`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import gathering, t5_layers, t5_stacks
from hyperjax.models.t5_layers import T5Config

__all__ = ["T5", "T5Config", "embed_tokens"]

NO_ADAPTERS = adapters.Adapters()


def embed_tokens(config: T5Config) -> t5_layers.Embedding:
  return t5_layers.Embedding(
    config.vocab_size,
    config.emb_dim,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    embedding_init=nn.with_logical_partitioning(
      nn.initializers.normal(1.0), (sharding.VOCAB, sharding.EMBED)
    ),
  )


class T5(nn.Module):
  """An encoder-decoder whose sites take the adapters of each row's context.

  Its `pad_id` is padding in the encoder's input. With `C` contexts of adapters, row
  b of a batch of `B` belongs to context `b // (B // C)`.
  """

  config: T5Config

  def setup(self):
    self.token_embedder = embed_tokens(self.config)
    self.encoder = t5_stacks.Encoder(self.config)
    self.decoder = t5_stacks.Decoder(self.config)

  def __call__(
    self,
    encoder_input_tokens: jax.Array,  # [B, S]
    decoder_input_tokens: jax.Array,  # [B * A, T]
    adapters: adapters.Adapters = NO_ADAPTERS,
  ) -> jax.Array:
    """Logits [B * A, T, V] in float32; decoder row b reads encoder row b // A."""
    encoded_BSD = self.encode(encoder_input_tokens, adapters)
    return self.decode(
      decoder_input_tokens,
      encoded_BSD,
      encoder_input_tokens != self.config.pad_id,
      adapters,
    )

  def encode(
    self,
    tokens_BS: jax.Array,
    adapters: adapters.Adapters = NO_ADAPTERS,
  ) -> jax.Array:
    """The encoder's normed output, [B, S, D]."""
    return self.encoder(
      self.token_embedder(tokens_BS),
      tokens_BS != self.config.pad_id,
      adapters.encoder,
    )

  def decode(
    self,
    tokens_BT: jax.Array,
    encoded_BSD: jax.Array,
    encoder_mask_BS: jax.Array,
    adapters: adapters.Adapters = NO_ADAPTERS,
  ) -> jax.Array:
    """Logits [B, T, V] of every position at once, in float32."""
    y_BTD = self.decoder(
      self.token_embedder(tokens_BT),
      encoded_BSD,
      encoder_mask_BS,
      adapters.decoder,
      adapters.memory,
    )
    return self.logits(y_BTD)

  def embed(self, tokens_BT: jax.Array) -> jax.Array:
    """[B, T, D], what either stack reads."""
    return self.token_embedder(tokens_BT)

  def logits(self, y_BTD: jax.Array) -> jax.Array:
    """[B, T, V] in float32, of what the decoder found."""
    config = self.config
    # Logits are float32 whatever the arithmetic: a softmax over 32,128 entries
    # loses too much in bfloat16.
    y_BTD = y_BTD.astype(jnp.float32)
    if config.is_output_scaled:
      y_BTD *= config.emb_dim**-0.5
    if config.logits_via_embedding:
      axes = sharding.EMBED, sharding.VOCAB
      embedding_VD = self.token_embedder.embedding
      logits_BTV = gathering.project(y_BTD, embedding_VD.T, axes)
    else:
      logits_BTV = self.decoder.logits(y_BTD)
    return sharding.constrain(
      logits_BTV, sharding.BATCH, sharding.LENGTH, sharding.VOCAB
    )
