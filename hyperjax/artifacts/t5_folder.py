"""A T5 written as a run folder: what a run that trained it would leave.

`initial.open_t5` reads it, so it serves wherever a T5 is asked for.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hyperjax import checkpoints, train_state
from hyperjax.artifacts import restore, run_record
from hyperjax.interop import weights
from hyperjax.models import problems


def write(
  folder: pathlib.Path, source: weights.T5Source, facts: Mapping[str, Any]
) -> None:
  """Writes `source` as the checkpoint of step 0, in the dtype of its arrays.

  All of it is in memory meanwhile: orbax takes whole trees.

  Args:
    folder: where; it is made.
    source: which T5.
    facts: where it comes from, for whoever opens the checkpoint.

  Raises:
    ValueError: arrays are missing or do not fit the source's configuration.
  """
  config = dataclasses.replace(source.config, param_dtype=_dtype(source))
  loaded = weights.load(source, config)
  problem = problems.LanguageModel(config)
  key = jax.random.key(0)
  state = train_state.TrainState(
    step=jnp.int32(0),
    params={"backbone": loaded.params},
    frozen={},
    opt_state={},
    key=key,
  )
  saver = checkpoints.Checkpoints(folder / restore.CHECKPOINTS)
  try:
    saver.save(
      state,
      checkpoints.Facts(
        position=0,
        pending={},
        origin=run_record.describe(problem, {}, facts),
        key=checkpoints.key_data(key),
      ),
    )
    saver.wait()
  finally:
    saver.close()


def _dtype(source: weights.T5Source) -> str:
  """What holds every array exactly."""
  found = {source.read(name).dtype.name for name in source.shapes}
  return found.pop() if len(found) == 1 else "float32"
