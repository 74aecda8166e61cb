"""`hyperjax adapt`: adapter folders from files of examples."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperjax import paths
from hyperjax.commands import (
  fitted_examples,
  model_options,
  reading_options,
  tuned,
  update,
  verdicts,
)

if TYPE_CHECKING:
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving.examples import Example, Fitted, Pool
  from hyperjax.serving.fields import Fields, Noted
  from hyperjax.serving.model import Model
  from hyperjax.serving.tuning import Tuned
  from hyperjax.serving.verdict import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
  model_options.add(parser, "a hypermodel's run folder")
  parser.add_argument(
    "--examples",
    default=[],
    nargs="+",
    type=paths.argument,
    metavar="FILE",
    help="a task each, with an input and an output in each row: "
    f"{reading_options.FORMATS}; of a folder all of its files",
  )
  reading_options.add(parser)
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
  verdicts.add_arguments(parser)
  tuned.add_arguments(parser)
  update.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
  """Writes an adapter for each file of examples; all or, on an error, none.

  Returns:
    The exit status: not 0 where the check fails what is required.

  Raises:
    ValueError: a file is broken, none of its examples fits, or a folder is not
      to be replaced.
  """
  update.check(arguments)
  verdicts.check(arguments)
  tuned.check(arguments)
  if arguments.update is not None:
    update.run(arguments)
    return 0
  from hyperjax.artifacts import adapter_folder
  from hyperjax.commands import compiled
  from hyperjax.serving import selection, tables, verdict  # imports jax

  files = _files(arguments.examples)
  noted = _read(files, reading_options.read(arguments))
  given = [own.found for own in noted]
  folders = _free_folders(files, arguments)
  shared = verdicts.shared(arguments)
  compiled.keep()
  model = model_options.load(arguments)
  verdicts.check_shared(arguments, model, shared)
  names = [tables.shown(path) for path in files] or ["no examples"]
  pools = _pools(model, dict(zip(names, given, strict=True)), arguments)
  select = arguments.select or selection.FIRST
  read, written = _written(model, pools, select, arguments.keep_encoded)
  found = verdicts.made(arguments, model, given, shared)
  further = tuned.made(arguments, model, pools, written)
  written = [adapter for adapter, _ in further]
  lines = []
  for i, folder in enumerate(folders):
    lines += fitted_examples.report(
      names[i], folder, read[i], model, select, given[i]
    )
    own = found[i] if found is not None else None
    if own is not None:
      is_further = further[i][1] is not None  # than what was checked
      made = (
        own.as_json_of("written", "as written:")
        if is_further
        else own.as_json()
      )
      written[i] = verdict.with_check(written[i], made)
    lines += _judged(own, further[i][1])
    lines += _notes(own, model, noted[i])
  adapter_folder.write_all(
    list(zip(folders, written, strict=True)), arguments.overwrite
  )
  print("\n".join(lines), flush=True)
  if found is None:
    return 0
  return verdicts.status(
    arguments.require, list(zip(folders, found, strict=True))
  )


def _judged(check: "Verdict | None", trained: "Tuned | None") -> list[str]:
  """What an adapter's check and its further training came to."""
  lines = []
  if check is not None:
    what = "check" if trained is None else "check of the adapter as written"
    lines.append(f"  {what}: {check.sentence()}")
  if trained is not None:
    lines.append(f"  trained further: {trained.sentence()}")
  return lines


def _notes(
  check: "Verdict | None", model: "Model", noted: "Noted[Example]"
) -> list[str]:
  """What is odd about a file's examples, in a line if anything is."""
  from hyperjax.serving import remarks

  odd = remarks.of(model, noted.found) if check is None else check.remarks
  said = "; ".join([*noted.notes, *odd])
  return [f"  note: {said}"] if said else []


def _read(
  files: Sequence[pathlib.Path], fields: "Fields"
) -> "list[Noted[Example]]":
  """The examples of each file; of none those of a task without any."""
  from hyperjax.serving import examples
  from hyperjax.serving.fields import Noted

  noted = [examples.read_noted(path, fields) for path in files] or [Noted([])]
  reading_options.warn("adapt", (x for own in noted for x in own.warnings))
  return noted


def _pools(
  model: "Model",
  given: "Mapping[str, Sequence[Example]]",
  arguments: argparse.Namespace,
) -> "list[Pool]":
  """Examples by file, as the model reads them; of each something fits."""
  pools = []
  for name, some in given.items():
    with fitted_examples.naming(name):
      pools.append(model.pool(some, arguments.instruction))
      pools[-1].fit()
  return pools


def _written(
  model: "Model", pools: "Sequence[Pool]", select: str, keep_encoded: bool
) -> "tuple[list[list[Fitted]], list[Adapter]]":
  """What is read of each pool, and the adapter that is written from it."""
  from hyperjax.serving import selection

  read = selection.choose(model, selection.all_of(pools), select)
  if keep_encoded:
    return read, model.write([own for [own] in read], keep_encoded=True)
  return read, selection.write(model, read)


def _files(given: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Files of examples, those of folders too."""
  from hyperjax.serving import tables

  found = []
  for path in given:
    if not path.is_dir():
      found.append(path)
      continue
    every = [x for x in sorted(path.iterdir(), key=str) if x.name[0] != "."]
    inside = [x for x in every if tables.is_known(x)]
    if not inside:
      raise ValueError(f"--examples {path}: no file of examples is in it")
    found += inside
    passed = [x.name for x in every if x not in inside]
    if passed:
      more = " and others" if len(passed) > 5 else ""
      reading_options.warn(
        "adapt",
        [f"{path}: passed over, by name: {', '.join(passed[:5])}{more}"],
      )
  return found


def _folders(
  files: Sequence[pathlib.Path], out: pathlib.Path, are_several: bool = False
) -> list[pathlib.Path]:
  """Where the adapter of each file goes."""
  from hyperjax.serving import tables

  if len(files) < 2 and not are_several:
    return [out]
  if tables.STDIN in files:
    raise ValueError("--examples -: standard input is one task, and alone")
  names = [path.stem for path in files]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(
      f"--examples has two files named {twice[0]!r}; each names an adapter "
      f"folder in {out}"
    )
  return [out / name for name in names]


def _free_folders(
  files: Sequence[pathlib.Path], arguments: argparse.Namespace
) -> list[pathlib.Path]:
  """The same, where nothing is that may not be replaced."""
  from hyperjax.artifacts import adapter_folder

  are_several = files != arguments.examples  # those of a folder, be it one
  folders = _folders(files, arguments.out, are_several)
  for folder in folders:
    adapter_folder.check_free(folder, arguments.overwrite)
  return folders
