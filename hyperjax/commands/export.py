"""`hyperjax export`: an adapter as other programs read it, checked in them."""

import argparse

from hyperjax import paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--adapter",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="an adapter folder",
  )
  parser.add_argument(
    "--to",
    required=True,
    metavar="FORMAT",
    help="peft: LoRA or IA3 for the peft library; hf: a Hugging Face T5 with "
    "either merged; orbax: the same T5 as HyperJAX's own checkpoint; ct2: the "
    "same for CTranslate2; gguf: LoRA for llama.cpp",
  )
  parser.add_argument(
    "--out",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="written; must not exist",
  )
  parser.add_argument(
    "--backbone",
    metavar="PATH",
    help="where the adapter's T5 lies now, if it has moved",
  )
  parser.add_argument(
    "--verify",
    action=argparse.BooleanOptionalAction,
    help="compare logits with HyperJAX's; the default where torch, "
    "transformers and, for peft, peft are installed",
  )
  parser.add_argument(
    "--require_verified",
    action="store_true",
    help="fail where nothing can be compared, since a library is missing",
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )


def run(options: argparse.Namespace) -> None:
  """Writes the folder once it is right.

  Raises:
    ValueError: as for `export.export`.
  """
  from hyperjax.serving import export  # imports jax

  export.export(
    options.adapter,
    options.to,
    options.out,
    options.backbone,
    options.verify,
    options.require_verified,
  )
