"""A T5 written as a run folder: what a run that trained it would leave.

`restore.open_t5` reads it, so it serves wherever a T5 is asked for.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp

from hyperjax import checkpoints, train_state
from hyperjax.artifacts import config_json, recording, restore, run_file
from hyperjax.artifacts.run_record import Merged, RunRecord, TokenizerRef
from hyperjax.data import vocabularies
from hyperjax.data.vocabulary import Tokenizer
from hyperjax.interop import weights
from hyperjax.models import problems


def write(
  folder: pathlib.Path,
  source: weights.T5Source,
  merged: Merged,
  tokenizer: Tokenizer | None = None,
) -> None:
  """Writes `source` as the checkpoint of step 0, in the dtype of its arrays.

  All of it is in memory meanwhile: orbax takes whole trees.

  Args:
    folder: where; it is made.
    source: which T5.
    merged: what it was made of, for its record.
    tokenizer: how it reads text, if that is known.

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
  record = RunRecord(
    config_json.problem_record(problem),
    merged=merged,
    versions=recording.versions(),
    tokenizer=None
    if tokenizer is None
    else TokenizerRef.of(tokenizer.description),
  )
  folder.mkdir(parents=True, exist_ok=True)
  run_file.write(folder, record)
  if tokenizer is not None:
    vocabularies.keep_copy(tokenizer, folder / restore.VOCABULARY)
  saver = checkpoints.Checkpoints(folder / run_file.CHECKPOINTS)
  try:
    saver.save(
      state,
      checkpoints.Facts(0, {}, checkpoints.key_data(key)),
    )
    saver.wait()
  finally:
    saver.close()


def _dtype(source: weights.T5Source) -> str:
  """What holds every array exactly."""
  found = {source.read(name).dtype.name for name in source.shapes}
  return found.pop() if len(found) == 1 else "float32"
