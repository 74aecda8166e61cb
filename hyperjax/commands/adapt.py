"""`hyperjax adapt`: adapter folders from files of examples."""

import argparse
import functools
import pathlib
from collections.abc import Sequence

from hyperjax import paths
from hyperjax.commands import fitted_examples, update


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_model(parser, "a hypermodel's run folder")
  parser.add_argument(
    "--examples",
    default=[],
    nargs="+",
    type=paths.argument,
    metavar="FILE",
    help="JSON lines with 'input' and 'output', or two columns (.csv, .tsv), "
    "with or without a first row input, output; a task each",
  )
  parser.add_argument(
    "--instruction",
    metavar="TEXT",
    help="what says in words what the task is, of all files; for models that "
    "were trained with instructions",
  )
  parser.add_argument(
    "--out",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="the adapter folder; of several files, a folder that gets an adapter "
    "folder by the name of each",
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="replace adapter folders"
  )
  update.add_arguments(parser)


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
  """What says which model is used."""
  parser.add_argument("--model", required=True, metavar="RUN", help=what)
  parser.add_argument(
    "--backbone", metavar="FOLDER", help="where its T5 lies, if it has moved"
  )
  parser.add_argument(
    "--vocabulary",
    metavar="FILE",
    help="where its tokenizer lies, if it has moved",
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )


def run(arguments: argparse.Namespace) -> None:
  """Writes an adapter for each file of examples; all or, on an error, none.

  Raises:
    ValueError: a file is broken, none of its examples fits, or a folder is not
      to be replaced.
  """
  update.check(arguments)
  if arguments.update is not None:
    update.run(arguments)
    return
  from hyperjax import serving  # imports jax
  from hyperjax.artifacts import adapter_folder
  from hyperjax.commands import compiled
  from hyperjax.serving import examples

  files = arguments.examples or ["no examples"]
  given = [examples.read(path) for path in arguments.examples] or [[]]
  folders = _folders(arguments.examples, arguments.out)
  for folder in folders:
    adapter_folder.check_free(folder, arguments.overwrite)
  compiled.keep()
  model = serving.load(
    arguments.model, arguments.backbone, arguments.vocabulary
  )
  every = [
    fitted_examples.fitted(
      path, functools.partial(model.fit, some, arguments.instruction)
    )
    for path, some in zip(files, given, strict=True)
  ]
  written = model.write(every, bool(arguments.keep_encoded))
  for path, folder, one, adapter in zip(
    files, folders, every, written, strict=True
  ):
    adapter.save(folder, arguments.overwrite)
    for line in fitted_examples.report(path, folder, one, model):
      print(line, flush=True)


def _folders(
  files: Sequence[pathlib.Path], out: pathlib.Path
) -> list[pathlib.Path]:
  """Where the adapter of each file goes."""
  if len(files) < 2:
    return [out]
  names = [path.stem for path in files]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(
      f"--examples has two files named {twice[0]!r}; each names an adapter "
      f"folder in {out}"
    )
  return [out / name for name in names]
