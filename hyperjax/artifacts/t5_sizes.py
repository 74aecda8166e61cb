"""The sizes of a T5 as its checkpoint says them, for runs that begin with it."""

import dataclasses
import functools
from typing import Annotated, Any

from hyperjax import checks, paths
from hyperjax.artifacts import adapter_folder, config_json, restore, run_file
from hyperjax.interop import formats
from hyperjax.models.t5_layers import T5Config

# Which sizes that are given otherwise leave.
_DEFAULTS = {each.name: each.default for each in dataclasses.fields(T5Config)}


@checks.arguments
def of_checkpoint(
  field: Annotated[str, checks.OneOf(_DEFAULTS)],
  path: str | None = None,
  run: str | None = None,
) -> Any:
  """A field of the `T5Config` of the T5 that a run begins with.

  Args:
    field: its name.
    path: INITIAL_CHECKPOINT_PATH: a T5, a run, or an adapter folder; None where
      weights are random.
    run: MODEL_DIR: a run that goes on has sizes of its own.

  Raises:
    ValueError: nothing there says it.
  """
  config = _config(path, run)
  if config is not None:
    return getattr(config, field)
  if _DEFAULTS[field] is not dataclasses.MISSING:
    return _DEFAULTS[field]
  raise ValueError(
    "INITIAL_CHECKPOINT_PATH is None, so no T5 says its sizes: give "
    "--gin_file=models/t5_1_1_small.gin, or another, after the run's file"
  )


@functools.lru_cache(maxsize=1)  # asked for one field after another
def _config(path: str | None, run: str | None) -> T5Config | None:
  for given in (run, path):
    found = _of_run(given) if isinstance(given, str) else None
    if found is not None:
      return found
  if path is None:
    return None
  if not formats.is_foreign(path):
    restore.existing(path, "INITIAL_CHECKPOINT_PATH")
  config = formats.open_source(path).config
  if config.scale_decoder_output == config.logits_via_embedding:
    # As files of sizes leave it, with which a run may be mixed.
    config = dataclasses.replace(config, scale_decoder_output=None)
  return config


def _of_run(path: str) -> T5Config | None:
  """Of the T5 of a run or an adapter folder; None where it is neither."""
  if formats.is_foreign(path):
    return None
  folder = paths.at(path).absolute()
  if (folder / adapter_folder.INFO).is_file():
    return adapter_folder.read_info(folder)[0].config
  record = run_file.read(folder)
  if record is None:
    return None
  return config_json.problem(record.problem, str(folder)).backbone
