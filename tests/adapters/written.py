"""Adapters as a hypermodel would have written them."""

import jax
import numpy as np

from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.serving import update
from hyperjax.serving.examples import Fitted


def drawn(spec, config, seed, dtype=np.float32, contexts=1):
  """Random arrays of a spec."""
  generator = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: generator.normal(size=leaf.shape).astype(dtype),
    spec.abstract(config, contexts),
  )


def from_examples(spec, config, arrays, examples):
  """An adapter with these arrays that says which examples were read."""
  info = adapter_folder.Info(
    spec=spec,
    config=config,
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=None,
    lengths={},
    origin={
      "hypermodel": {"identity": "cd" * 32},
      "demonstrations": update.read_from(Fitted([], examples, [])),
    },
  )
  return adapter_folder.Adapter(info, arrays)
