"""Adapters as other programs read them, checked in those programs.

- `peft`: as a folder of the `peft` library;
- `hf`: a Hugging Face T5 with the adapter merged into its weights;
- `orbax`: the same T5 as a run folder, which HyperJAX takes wherever a T5 is
  asked for;
- `ct2`: the same T5 for CTranslate2;
- `gguf`: LoRA for llama.cpp.

Which of these can hold a kind, its spec says (`adapters.Spec.not_exported`).
"""

import dataclasses
import logging
import pathlib
import tempfile

import numpy as np

from hyperjax import adapters, paths
from hyperjax.artifacts import (
  adapter_folder,
  restore,
  run_record,
  t5_folder,
  tokenizer_of,
)
from hyperjax.data import files, instructions, vocabularies
from hyperjax.data.vocabulary import SentencePiece, Tokenizer
from hyperjax.interop import (
  ct2,
  formats,
  gguf_lora,
  hf,
  hf_arrays,
  hf_config,
  hf_write,
  logits,
  merged,
  peft,
  peft_read,
  verify,
  weights,
)
from hyperjax.memory import program
from hyperjax.models import quantizing

_log = logging.getLogger(__name__)
_INSTALL = "pip install 'hyperjax[interop]'"
# The forms there are, and the libraries that read them.
_NEEDED: dict[str, list[str]] = {
  "peft": ["peft", "transformers", "torch"],
  "hf": ["transformers", "torch"],
  "orbax": [],
  "ct2": ["ctranslate2", "transformers", "torch"],
  "gguf": ["gguf"],
}
# Those that the library itself writes.
_WRITTEN_BY = {"ct2": _NEEDED["ct2"], "gguf": _NEEDED["gguf"]}


# By which file each is known.
_LAST = {
  "peft": "adapter_config.json",
  "hf": hf_config.CONFIG,
  "orbax": "run.json",
  "ct2": "model.bin",
  "gguf": gguf_lora.FILE,
}


def export(
  adapter: pathlib.Path,
  to: str,
  out: pathlib.Path,
  backbone: str | None = None,
  verified: bool | None = None,
  require_verified: bool = False,
) -> None:
  """Writes an adapter folder in another form; `out` appears once it is right.

  Args:
    adapter: the adapter folder.
    to: "peft", "hf", "orbax", "ct2" or "gguf".
    out: the folder to be made.
    backbone: where the adapter's T5 lies now, if it has moved.
    verified: whether logits are compared; by default where the libraries for it
      are installed.
    require_verified: whether an export that cannot be compared is an error.

  Raises:
    ValueError: the adapter does not fit the format or the backbone, something
      is in the way, or the export computes something else; nothing is left.
  """
  hf_write.check_absent(out)
  info, _ = adapter_folder.read_info(adapter)
  _check_form(info.spec, to)
  absent = verify.missing(_NEEDED[to])
  if to in _WRITTEN_BY and absent:
    raise ValueError(f"--to {to} needs {', '.join(absent)}: {_INSTALL}")
  if absent and (verified or require_verified):
    option = "--verify" if verified else "--require_verified"
    raise ValueError(f"{option} needs {', '.join(absent)}: {_INSTALL}")
  if require_verified and verified is False:
    raise ValueError("--require_verified and --no-verify exclude each other")
  read = adapter_folder.read(adapter)
  source = _backbone(read.info, backbone, str(adapter))
  last = _LAST[to]
  with files.whole_folder(out, hf_write.check_absent, last) as made:
    _write(made, to, read, source)
    if verified is False:
      said = "not verified: --no-verify"
    elif absent:
      said = f"not verified: {', '.join(absent)} not installed; {_INSTALL}"
    else:
      with program.advising("verifying an export", "set --no-verify"):
        said = "verified: " + _verify(made, to, read, source)
  print("\n".join([said, f"{out} is written", *_notes(to, read.info, source)]))


def _notes(
  to: str, info: adapter_folder.Info, source: weights.T5Source
) -> list[str]:
  """What whoever uses the export has to know, and no file of it says."""
  notes = []
  if to == "peft" and _theirs(source) is None:
    notes.append(
      "it names no base model, since its T5 is not in Hugging Face's format: "
      f"`hyperjax import --from {source.path} --to FOLDER` writes that"
    )
  said = info.instruction
  if said is not None and instructions.BACKBONE in said["readers"]:
    notes.append(
      f"put before each input, as in training: {said['text']!r} and a blank"
    )
  return notes


def _check_form(spec: adapters.Spec, to: str) -> None:
  """Refuses what a format cannot hold, and says what to do instead."""
  if to in spec.not_exported:
    raise ValueError(
      f"{spec.label} cannot be exported to {to}: {spec.not_exported[to]}. Use "
      "the adapter with `hyperjax predict`, or train LoRA or IA3 "
      "(--gin_file=adapters/lora.gin), which can be exported exactly"
    )
  if to not in _NEEDED:
    raise ValueError(f"--to takes {', '.join(_NEEDED)}; got {to!r}")


def _backbone(
  info: adapter_folder.Info, moved: str | None, where: str
) -> weights.T5Source:
  """The T5 that an adapter was written for, checked by its hash."""
  place = moved or info.backbone.source
  if formats.is_foreign(place):
    source = formats.open_source(place)
  elif paths.at(place).is_dir():
    folder = paths.at(place).absolute()
    source = restore.open_t5(folder, None if moved else info.backbone.step)
  else:
    raise ValueError(
      f"the T5 of {where} was in {place}, which is not there; say where it is "
      "with --backbone"
    )
  weights.check_function(source, info.config)
  adapter_folder.check_backbone(info, weights.identity(source), where)
  # What a t5x checkpoint does not tell, the adapter does; weights are as stored.
  config = dataclasses.replace(info.config, quantization=quantizing.NONE)
  return dataclasses.replace(source, config=config)


def _write(
  folder: pathlib.Path,
  to: str,
  adapter: adapter_folder.Adapter,
  source: weights.T5Source,
) -> None:
  if to == "peft":
    _write_peft(folder, adapter, source)
    return
  if to == "gguf":
    folder.mkdir()
    gguf_lora.write(folder, adapter.arrays, source.config, _base_model(source))
    return
  if to == "ct2":
    _write_ct2(folder, adapter, source)
    return
  changed = merged.merged(source, adapter.arrays)
  if to == "hf":
    others = _tokenizer_files(adapter.info, source)
    hf_write.write_folder(folder, changed, others=others)
    return
  made_of = run_record.Merged(adapter.info.backbone, adapter.identity)
  own = tokenizer_of.of_t5(source.path, source.config.vocab_size)
  tokenizer = _tokenizer(adapter.info, source, own)
  t5_folder.write(folder, changed, made_of, tokenizer)


def _tokenizer(
  info: adapter_folder.Info, source: weights.T5Source, own: Tokenizer | None
) -> Tokenizer | None:
  """What the adapter was made with, else the T5's `own`."""
  if info.tokenizer is None or not info.tokenizer.is_readable:
    return own
  if own is not None and own.identity == info.tokenizer.identity:
    return own
  said = info.tokenizer.description
  if isinstance(own, SentencePiece):
    # The same model, perhaps with other extra ids.
    own = vocabularies.named_as(own.path, said)
    if own.identity == info.tokenizer.identity:
      return own
  try:
    return vocabularies.open_described(said, formats.folder_of(source.path))
  except ValueError as error:
    _log.warning("exported without the adapter's tokenizer: %s", error)
    return None


def _tokenizer_files(
  info: adapter_folder.Info, source: weights.T5Source
) -> dict[str, str | bytes]:
  own = tokenizer_of.of_t5(source.path, source.config.vocab_size)
  found = _tokenizer(info, source, own)
  if found is None or (own is not None and own.identity == found.identity):
    return tokenizer_of.files_for_hf(source.path, source.config.vocab_size)
  return vocabularies.written(found)


def _write_ct2(
  folder: pathlib.Path,
  adapter: adapter_folder.Adapter,
  source: weights.T5Source,
) -> None:
  """The merged T5, by way of a folder of Hugging Face."""
  others = _tokenizer_files(adapter.info, source)
  if not others:
    raise ValueError(
      f"--to ct2 needs the T5's tokenizer, and {source.path} has none beside it"
    )
  with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
    whole = pathlib.Path(scratch) / "t5"
    changed = merged.merged(source, adapter.arrays)
    hf_write.write_folder(whole, changed, others=others)
    ct2.convert(whole, folder, source.config.is_output_scaled)


def _write_peft(
  folder: pathlib.Path,
  adapter: adapter_folder.Adapter,
  source: weights.T5Source,
) -> None:
  """What it was imported from, as long as that is what its arrays are."""
  folder.mkdir()
  if adapter.imported is not None:
    found = peft_read.read(adapter.imported, source.config, source.shapes)
    again = dataclasses.replace(adapter, arrays=found.arrays)
    if again.identity == adapter.identity:
      peft_read.keep(found, folder)
      return
  peft.write_folder(folder, adapter.arrays, source.config, _base_model(source))


def _verify(
  folder: pathlib.Path,
  to: str,
  adapter: adapter_folder.Adapter,
  source: weights.T5Source,
) -> str:
  """What was found; raises where the export computes something else."""
  wanted = verify.reference(source, adapter.arrays)
  where = verify.versions(_NEEDED[to]) or "the checkpoint"
  if to == "peft":
    found = _peft_logits(folder, source, wanted.tokens)
    return verify.compare(found, wanted, where)
  if to == "gguf":
    arrays = gguf_lora.read(folder, source.config)
    [found] = logits.of_adapters(source, wanted.tokens, arrays)
    said = verify.compare(found, wanted, f"{where}, which reads it back,")
    return f"{said}; llama.cpp itself was not asked"
  changed = merged.merged(source, adapter.arrays)
  dtype = changed.read(next(iter(merged.by_kernel(adapter.arrays)))).dtype.name
  lost = ""
  if dtype != "float32":
    kept = logits.of_adapters(changed, wanted.tokens)[0]
    lost = "; " + verify.rounded(kept, wanted, dtype)
    wanted = dataclasses.replace(wanted, adapted=kept)
  if to == "hf":
    found = verify.transformers_logits(folder, wanted.tokens)
  elif to == "ct2":
    found = ct2.log_probs(folder, wanted.tokens)
    wanted = dataclasses.replace(
      wanted,
      plain=ct2.of_logits(wanted.plain, wanted.tokens[1]),
      adapted=ct2.of_logits(wanted.adapted, wanted.tokens[1]),
    )
  else:
    found = logits.of_adapters(restore.open_t5(folder), wanted.tokens)[0]
  return verify.compare(found, wanted, where) + lost


def _peft_logits(
  folder: pathlib.Path,
  source: weights.T5Source,
  tokens: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
  """Of PEFT on the backbone's own folder where transformers reads it."""
  base = _theirs(source)
  if base is not None:
    return verify.transformers_logits(base, tokens, folder)
  with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
    base = pathlib.Path(scratch) / "base"
    hf_write.write_folder(base, source)
    return verify.transformers_logits(base, tokens, folder)


def _base_model(source: weights.T5Source) -> str | None:
  """What an adapter names as its T5, where transformers would read that."""
  base = _theirs(source)
  return None if base is None else str(base)


def _theirs(source: weights.T5Source) -> pathlib.Path | None:
  """The folder of a T5 that transformers reads as it is."""
  folder = pathlib.Path(source.path)
  if paths.is_remote(source.path) or not hf.is_folder(folder):
    return None
  return folder.absolute() if hf_arrays.is_here(folder) else None
