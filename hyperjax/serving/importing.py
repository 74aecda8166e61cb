"""Adapters of other programs as adapter folders."""

import pathlib
import tempfile
from collections.abc import Mapping

from hyperjax import adapters
from hyperjax.artifacts import (
  adapter_folder,
  config_json,
  restore,
  run_folder,
  tokenizer_of,
)
from hyperjax.artifacts.run_record import BackboneRef, TokenizerRef
from hyperjax.interop import formats, peft_read, weights


def from_peft(
  path: pathlib.Path,
  model: str,
  out: pathlib.Path,
  vocabulary: str | None = None,
  overwrite: bool = False,
) -> str:
  """Makes an adapter folder of one of the `peft` library, and says what it is.

  Args:
    path: its folder.
    model: the T5 that it is for, or a run whose T5 that is.
    out: the adapter folder.
    vocabulary: where the T5's tokenizer lies, if not beside it.
    overwrite: whether `out` may be replaced.

  Raises:
    ValueError: it cannot be read, as for `peft_read.read`, or is of another T5.
  """
  adapter_folder.check_free(out, overwrite)
  source, step, tokenizer, lengths = _backbone(model, vocabulary)
  weights.check_whole(source)
  found = peft_read.read(path, source.config, source.shapes)
  info = adapter_folder.Info(
    spec=found.spec,
    config=source.config,
    backbone=BackboneRef(weights.identity(source), source.path, step),
    tokenizer=tokenizer,
    lengths=lengths,
    origin={"imported": {"from": str(found.folder), "peft": found.facts}},
  )
  with tempfile.TemporaryDirectory() as scratch:
    theirs = pathlib.Path(scratch)
    peft_read.keep(found, theirs)
    own = adapter_folder.Adapter(info, found.arrays, imported=theirs)
    own.save(out, overwrite)
  lines = [f"{found.spec.label} of {found.folder}, in {out}"]
  if tokenizer is None:
    lines.append(
      f"the T5 {model} has no tokenizer beside it: `hyperjax predict` needs "
      "--vocabulary"
    )
  lines.append("settings of runs that begin with it:")
  return "\n".join([*lines, *_settings(found.spec)])


def _backbone(
  model: str, vocabulary: str | None
) -> tuple[
  weights.T5Source, int | None, TokenizerRef | None, Mapping[str, int]
]:
  """The T5, its step and lengths if it is of a run, its tokenizer where known."""
  found = None
  if formats.is_foreign(model):
    source = formats.open_source(model)
  else:
    folder = restore.existing(model, "--model")
    source = restore.open_t5(folder)
    if not formats.formats(folder):
      found = run_folder.look(folder, model)
  own = tokenizer_of.asked_for(model, source.config.vocab_size, vocabulary)
  tokenizer = None if own is None else TokenizerRef.of(own.description)
  if found is None:
    return source, None, tokenizer, {}
  step = found.step if found.record.problem.trains_t5 else None
  reads = found.record.reads
  return source, step, tokenizer, reads.lengths if reads else {}


def _settings(spec: adapters.Spec) -> list[str]:
  """The lines of gin that say which adapters these are."""
  kind = type(spec).__name__
  fields = config_json.tagged(spec).fields
  return [
    f"  ADAPTERS = @adapters.{kind}()",
    *(
      f"  adapters.{kind}.{name} = {value!r}" for name, value in fields.items()
    ),
  ]
