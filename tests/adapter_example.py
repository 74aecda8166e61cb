"""A T5 in a Hugging Face folder and adapters for it, for tests of exports."""

import pathlib

import jax
import numpy as np

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.interop import hf, hf_write, weights
from hyperjax.models.t5_layers import T5Config
from tests import testing

# No alpha is its rank; every one leaves something out.
SPECS = {
  "query and value": adapters.LoraSpec(3, alpha=7.0),
  "feed-forward": adapters.LoraSpec(2, alpha=5.0, projections=("wo", "key")),
  "cross-attention": adapters.LoraSpec(
    1,
    alpha=2.0,
    projections=("out", "query", "key", "value"),
    sites=("decoder.encoder_decoder_attention",),
  ),
  "one stack": adapters.LoraSpec(4, sites=("encoder.attention",)),
  "places": adapters.PlacedLoraSpec(
    {"encoder.attention.out": 1, "decoder.mlp.wo": 3, "encoder.mlp.wo": 2}
  ),
  "ia3": adapters.Ia3Spec(2),
}


def backbone(
  folder: pathlib.Path, config: T5Config = testing.CONFIG, dtype="float32"
) -> weights.T5Source:
  """A random T5, written and opened."""
  source = weights.from_params("memory", config, testing.t5_params(config))
  hf_write.write_folder(folder, source, dtype)
  return hf.open_folder(folder)


def adapter(
  source: weights.T5Source,
  spec: adapters.Spec = SPECS["query and value"],
  scale: float = 0.3,
) -> adapter_folder.Adapter:
  """Random arrays for that T5."""
  drawn = testing.draw(spec.abstract(source.config), scale=scale)
  info = adapter_folder.Info(
    spec=spec,
    config=source.config,
    backbone=BackboneRef(weights.identity(source), source.path),
    tokenizer=None,
    lengths={},
    origin={},
  )
  return adapter_folder.Adapter(info, jax.tree.map(np.asarray, drawn))
