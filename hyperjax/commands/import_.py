"""`hyperjax import`: any T5 that can be read, in the layout of another program."""

import argparse
from collections.abc import Iterator
from typing import Any

from hyperjax import checks, paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--from",
    dest="source",
    required=True,
    metavar="PATH",
    help="a t5x checkpoint, a Hugging Face folder or a run",
  )
  parser.add_argument(
    "--to",
    dest="target",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="written in Hugging Face's layout; must not exist",
  )
  parser.add_argument(
    "--layout",
    choices=("hf", "t5x"),
    default="hf",
    help="hf: of Hugging Face; t5x: of t5x's own checkpoints, in checkpoint_0/",
  )
  parser.add_argument(
    "--dtype",
    choices=checks.DTYPES,
    help="cast all arrays (they keep their type)",
  )
  parser.add_argument(
    "--check",
    action="store_true",
    help="compare identities and logits afterwards, also with those of "
    "transformers where it is installed",
  )
  parser.add_argument(
    "--vocabulary",
    metavar="FILE",
    help="tokenizer to put beside instead of PATH's own: a SentencePiece model, a "
    'tokenizer.json, or "bytes"',
  )
  checks.add_option(
    parser,
    "--relpos_max_distance",
    checks.MaxDistance,
    "of a t5x checkpoint, which does not tell it (128)",
  )
  parser.add_argument(
    "--mlp_activations",
    metavar="NAME,...",
    help="of a t5x checkpoint, which does not tell them "
    "(gelu,linear or relu, by their number)",
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )


def run(options: argparse.Namespace) -> None:
  """Writes the folder, and checks it if asked to.

  Raises:
    ValueError: the source cannot be read, the target exists, or the check
      fails; then the folder stays, to be looked at.
  """
  from hyperjax.artifacts import tokenizer_of
  from hyperjax.interop import hf_write, t5x_write

  hf_write.check_absent(options.target)
  source = _open(options)
  tokenizer = tokenizer_of.files_for_hf(
    options.source, source.config.vocab_size, options.vocabulary
  )
  write = t5x_write if options.layout == "t5x" else hf_write
  write.write_folder(options.target, source, options.dtype, others=tokenizer)
  print(f"{source.path}: {_summary(source)}, written to {options.target}")
  if not tokenizer:
    print("without a tokenizer: none lies beside; --vocabulary names one")
  if options.check:
    _check(options, source)


def _open(options: argparse.Namespace) -> Any:
  """The source, with what the options say of it."""
  from hyperjax.artifacts import restore
  from hyperjax.interop import formats

  given: dict[str, Any] = {}
  if options.relpos_max_distance is not None:
    given["relpos_max_distance"] = options.relpos_max_distance
  if options.mlp_activations is not None:
    given["mlp_activations"] = tuple(options.mlp_activations.split(","))
  if given or formats.is_foreign(options.source):
    return formats.open_source(options.source, **given)
  folder = paths.at(options.source).absolute()
  if not folder.is_dir():
    return formats.open_source(folder)  # says what is wrong
  return restore.open_t5(folder)


def _summary(source: Any) -> str:
  import math

  config = source.config
  count = sum(math.prod(shape) for shape in source.shapes.values())
  layers = f"{config.num_encoder_layers}+{config.num_decoder_layers} layers"
  return (
    f"a T5 of {count:,} parameters, {layers}, {config.num_heads} heads of "
    f"{config.head_dim}, {','.join(config.mlp_activations)}"
  )


def _check(options: argparse.Namespace, source: Any) -> None:
  """Prints what was compared.

  Raises:
    ValueError: something is not equal.
  """
  from hyperjax.interop import logits, weights
  from hyperjax.memory import program

  target = _written(options, source.config)
  failed = []
  if options.dtype is None:
    before, after = weights.identity(source), weights.identity(target)
    print(f"identity: {after}")
    if before != after:
      failed.append(f"the source's identity is {before}")
  with program.advising(f"checking {options.target}", "leave out --check"):
    ours = logits.of_source(target)
    for name, others, counts in _compared(options, source):
      largest, is_near = logits.difference(others, ours)
      print(f"logits of {name}: largest difference {largest:.3g}")
      if counts and not is_near:
        failed.append(f"logits of {name} differ by {largest:.3g}")
  if options.layout == "hf" and not logits.has_transformers():
    print("torch and transformers are not installed: theirs are not compared")
  if failed:
    raise ValueError(f"{options.target} is not its source: {'; '.join(failed)}")


def _written(options: argparse.Namespace, config: Any) -> Any:
  """The T5 that was written, with what t5x's checkpoints do not tell of one."""
  import dataclasses

  from hyperjax.interop import hf, t5x

  target = paths.fetched(options.target)
  if options.layout == "hf":
    return hf.open_folder(target)
  found = t5x.open_checkpoint(target)
  said = {name: getattr(config, name) for name in found.assumed}
  said["scale_decoder_output"] = config.scale_decoder_output
  config = dataclasses.replace(found.config, **said)
  return dataclasses.replace(found, config=config)


def _compared(
  options: argparse.Namespace, source: Any
) -> Iterator[tuple[str, Any, bool]]:
  """Logits to compare with ours of the folder, and whether they must agree."""
  from hyperjax.interop import hf, hf_arrays, logits

  is_same = options.dtype is None
  yield "the source", logits.of_source(source), is_same
  if not logits.has_transformers():
    return
  target = paths.fetched(options.target)
  if options.layout == "hf":
    yield "transformers", logits.of_transformers(target), True
  if paths.is_remote(source.path):
    return
  folder = paths.at(source.path)
  if hf.is_folder(folder) and hf_arrays.is_here(folder):
    theirs = logits.of_transformers(folder)
    yield "transformers from the source", theirs, is_same
