"""HyperTuning as a model of t5x, for those who have t5x: `docs/t5x.md`.

`HyperTuningModel` is what `t5x.train`, `t5x.eval` and `t5x.infer` take as their
model. The problem, the models and the adapters are HyperJAX's own; here is only
what t5x wants to see of them.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import core
from flax import linen as nn
from flax.linen import partitioning

try:
  # Checkers take t5x.py beside this file for it.
  from t5x import decoding, models  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]: not on the package index
  from t5x import optimizers as t5x_optimizers  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
except ImportError as error:
  raise ImportError(
    "hyperjax.interop.t5x_model needs t5x with all that it imports, which is "
    f"not installed with hyperjax ({error}); docs/t5x.md says how to get it"
  ) from error

from hyperjax import checks, trees
from hyperjax.adapters import Adapters
from hyperjax.batch import PAD_ID
from hyperjax.data import seqio_features
from hyperjax.interop import t5x_layers
from hyperjax.models import (
  decode_cache,
  problems,
  quantizing,
  t5,
  t5_attention,
  t5_steps,
)
from hyperjax.models.decoding import NEVER
from hyperjax.optimizers import Optimizer

BACKBONE, HYPERMODEL = "backbone", "hypermodel"

# t5x expands and reorders every value of a cache by decodes, but not one of this
# name.
_INDEX = "cache_index"


def part_names(params: Any) -> Any:
  """For each parameter, the part it belongs to: "backbone" or "hypermodel"."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key, params)


@checks.arguments
def hypermodel_only(optimizer: Optimizer) -> t5x_optimizers.OptimizerDef:
  """An optimizer of t5x's that updates the hypermodel and nothing else.

  What is frozen has no moments, and gets an update of zero.
  """
  by_part: dict[Any, optax.GradientTransformation] = {
    HYPERMODEL: optimizer.build(),
    BACKBONE: optax.set_to_zero(),
  }
  return t5x_optimizers.OptaxWrapper(optax.multi_transform(by_part, part_names))


class HyperTuningModel(models.EncoderDecoderModel):
  """A hypermodel that writes adapters for a frozen T5, trained by t5x.

  Parameters are `{"backbone", "hypermodel"}`, each with an array per layer under
  the names of public T5 checkpoints. Unless the problem trains the backbone no
  gradient flows to it; the optimizer must still be told to leave it alone.

  Args:
    problem: what is trained; its z-loss and label smoothing are used.
    input_vocabulary: seqio's, of demonstrations and inputs.
    output_vocabulary: seqio's; ids that it lacks are never decoded.
    optimizer_def: t5x's.
    decode_fn: t5x's, `beam_search` or `temperature_sample`.
    loss_normalizing_factor: t5x's; None sums over tokens.
    default_decoder_params: t5x's.
  """

  FEATURE_CONVERTER_CLS = seqio_features.HyperTuningFeatureConverter

  def __init__(
    self,
    problem: problems.HyperTuning,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: Any = decoding.beam_search,
    loss_normalizing_factor: Any = None,
    default_decoder_params: Any = None,
  ):
    checks.rule_of(problems.HyperTuning).check(
      "HyperTuningModel.problem", problem
    )
    if problem.backbone.pad_id != PAD_ID:
      raise ValueError(
        f"HyperTuningModel.problem: T5Config.pad_id is "
        f"{problem.backbone.pad_id}; t5x's batches are filled with {PAD_ID}"
      )
    if problem.backbone.quantization != quantizing.NONE:
      raise ValueError(
        "HyperTuningModel.problem: T5Config.quantization is "
        f"{problem.backbone.quantization!r}; t5x takes gradients of all weights: "
        f"{quantizing.NONE!r} is needed"
      )
    super().__init__(
      module=t5.T5(problem.backbone),
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      label_smoothing=problem.label_smoothing,
      z_loss=problem.z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
      default_decoder_params=default_decoder_params,
    )
    self.problem = problem

  def get_initial_variables(
    self, rng: Any, input_shapes: Any, input_types: Any = None
  ) -> Any:
    """Fresh parameters, and t5x's record of their logical axes."""
    del input_shapes, input_types  # no parameter's shape depends on a batch
    params, frozen = self.problem.init(rng)
    boxed = params | frozen
    names = trees.flatten(t5x_layers.axis_names(boxed))
    axes = {
      f"{path}_axes": partitioning.AxisMetadata(names=spec)
      for path, spec in names.items()
    }
    return core.freeze(
      {
        "params": t5x_layers.unstack(nn.meta.unbox(boxed)),
        "params_axes": trees.unflatten(axes),
      }
    )

  def _compute_logits(
    self,
    params: Any,
    batch: Mapping[str, Any],
    dropout_rng: Any = None,
    mutable: Any = False,
    other_variables: Any = None,
  ) -> Any:
    """Logits [B, T, V]; with `mutable` also what was kept, which is nothing."""
    del other_variables
    hyper_key = backbone_key = None
    if dropout_rng is not None:
      hyper_key, backbone_key = jax.random.split(dropout_rng)
    if not self.problem.train_backbone:
      backbone_key = None
    backbone, written = self._write(params, batch, hyper_key)
    logits_BTV = self.module.apply(
      {"params": backbone},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
      written,
      rngs=None if backbone_key is None else {"dropout": backbone_key},
    )
    return (logits_BTV, {}) if mutable else logits_BTV

  def predict_batch_with_aux(
    self,
    params: Any,
    batch: Mapping[str, Any],
    rng: Any = None,
    decoder_params: Mapping[str, Any] | None = None,
    return_all_decodes: bool | None = None,
    num_decodes: int | None = None,
    prompt_with_targets: bool = False,
  ) -> tuple[Any, Mapping[str, Any]]:
    """Decoded ids [B, T] and their scores [B], by `decode_fn`.

    With `return_all_decodes` [B, N, T] and [B, N], the best last. Arguments are
    t5x's; prompts are decoded token by token.
    """
    defaults = self._default_decoder_params
    if return_all_decodes is None:
      return_all_decodes = defaults.return_all_decodes
    if num_decodes is None:
      num_decodes = defaults.num_decodes
    eos_id = self.output_vocabulary.eos_id or 1
    options = {"eos_id": eos_id} | dict(decoder_params or {})
    if rng is not None:
      options["decode_rng"] = rng
    prompts_BT = batch["decoder_input_tokens"]
    is_kept = prompt_with_targets and prompts_BT != eos_id
    cache, step = self._start(params, batch, prompts_BT.shape[1])
    decodes_BNT, scores_BN = self.decode_fn(
      inputs=jnp.where(is_kept, prompts_BT, PAD_ID),
      cache=cache,
      tokens_to_logits=step,
      num_decodes=num_decodes,
      **options,
    )
    if return_all_decodes:
      return decodes_BNT, {"scores": scores_BN}
    return decodes_BNT[:, -1], {"scores": scores_BN[:, -1]}

  def _start(
    self, params: Any, batch: Mapping[str, Any], max_length: int
  ) -> tuple[dict[str, Any], Any]:
    """The cache that t5x carries, expands and reorders, and a decoding step.

    What all decodes of an example share (adapters, the encoder's side) stays
    outside: a row of the decoder finds the encoder row it belongs to by itself.
    """
    backbone, written = self._write(params, batch)
    config = self.module.config
    weights = t5_steps.prepared(config, backbone)
    start = t5_steps.start(
      config, weights, batch["encoder_input_tokens"], max_length, written
    )
    step = functools.partial(
      self._compute_logits_from_slice,
      weights=weights,
      start=start,
      of_layers=t5_steps.by_layer(written.decoder, config.num_decoder_layers),
    )
    return _carried(start), step

  def _compute_logits_from_slice(
    self,
    decoding_state: Any,
    weights: t5_steps.Weights,
    start: decode_cache.Cache,
    of_layers: Any,
  ) -> tuple[Any, Mapping[str, Any]]:
    """Logits [B * N, V] of the next position, and the cache after it."""
    carried = dict(decoding_state.cache)
    index = carried.pop(_INDEX)
    own = [
      t5_attention.KeyValue(**carried[_layer(i)]) for i in range(len(carried))
    ]
    cache = dataclasses.replace(start, own=tuple(own), index=index)
    tokens_B = decoding_state.cur_token[:, 0]
    logits_BV, cache = t5_steps.step(
      self.module.config, weights, tokens_B, cache, of_layers
    )
    known = self.output_vocabulary.vocab_size
    is_unknown_V = jnp.arange(logits_BV.shape[-1]) >= known
    return jnp.where(is_unknown_V, NEVER, logits_BV), _carried(cache)

  def _write(
    self, params: Any, batch: Mapping[str, Any], key: Any = None
  ) -> tuple[Any, Adapters]:
    """The backbone's parameters as our T5 takes them, and its adapters."""
    stacked = t5x_layers.stack(params)
    backbone = stacked[BACKBONE]
    if not self.problem.train_backbone:
      backbone = jax.lax.stop_gradient(backbone)
    written = self.problem.write(
      stacked | {BACKBONE: backbone}, batch[seqio_features.DEMONSTRATIONS], key
    )
    return backbone, written


def _carried(cache: decode_cache.Cache) -> dict[str, Any]:
  layers = {
    _layer(i): {"key": own.key, "value": own.value}
    for i, own in enumerate(cache.own)
  }
  return layers | {_INDEX: cache.index}


def _layer(number: int) -> str:
  return f"layers_{number}"
