"""How a module meets its weights: cast once, and with the precision of its T5."""

import contextlib
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import sharding
from hyperjax.models.t5_layers import T5Config

_log = logging.getLogger(__name__)


# The output layer multiplies in float32.
_WHOLE = "logits_dense"


def apply(
  module: nn.Module,
  config: T5Config,
  params: Any,
  *args: Any,
  method: str | None = None,
  dropout_key: jax.Array | None = None,
) -> Any:
  """`module` on `args` with `params`; without `dropout_key` nothing drops out."""
  rngs = None if dropout_key is None else {"dropout": dropout_key}
  with precision(config):
    return module.apply(
      {"params": cast(params, config)}, *args, method=method, rngs=rngs
    )


def cast(params: Any, config: T5Config) -> Any:
  """Weights of products in the arithmetic's type, where that is the narrower one.

  Before layers are scanned: within, each layer would do it again wherever its
  forward pass is repeated.
  """

  def narrowed(path: Any, weight: jax.Array) -> jax.Array:
    names = [getattr(each, "key", "") for each in path]
    is_kernel = names[-1].split(".")[-1] == "kernel" and _WHOLE not in names
    return _narrowed(weight, config) if is_kernel else weight

  return jax.tree_util.tree_map_with_path(narrowed, params)


def cast_adapters(adapters: Any, config: T5Config) -> Any:
  """All of an adapter's arrays as its sites use them."""
  return jax.tree.map(lambda leaf: _narrowed(leaf, config), adapters)


def _narrowed(x: Any, config: T5Config) -> Any:
  dtype = jnp.dtype(config.dtype)
  is_wider = jnp.issubdtype(x.dtype, jnp.floating) and (
    x.dtype.itemsize > dtype.itemsize
  )
  return x.astype(dtype) if is_wider else x


def precision(config: T5Config) -> contextlib.AbstractContextManager[Any]:
  """Of the matrix products traced within; that which JAX has, by default."""
  if config.dtype == "float32":
    _tell(config.matmul_precision, sharding.platform())
  if config.matmul_precision == "default":
    return contextlib.nullcontext()
  return jax.default_matmul_precision(config.matmul_precision)


@functools.cache
def _tell(wanted: str, platform: str) -> None:
  """Once for each; on a CPU products of float32 arrays are float32 anyway."""
  if platform != "cpu":
    _log.info(
      "float32 products on %s: T5Config.matmul_precision is %r",
      platform,
      wanted,
    )
