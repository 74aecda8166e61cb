"""`hyperjax score`: figures of predictions, a benchmark's own or general ones."""

import argparse
import pathlib
from typing import Any

from hyperjax import paths
from hyperjax.data import files
from hyperjax.scores import official_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The benchmarks and their options."""
  names = parser.add_subparsers(
    dest="benchmark", metavar="BENCHMARK", required=True
  )
  sni = _add_benchmark(
    names,
    "sni",
    "Super-NaturalInstructions: ROUGE-L and exact match",
    "JSON lines with 'id' and 'prediction', or Tk-Instruct's with 'Instance'",
  )
  sni.add_argument(
    "--references",
    type=pathlib.Path,
    metavar="FILE",
    help="the authors' reference file: JSON lines with 'id' and 'references'",
  )
  sni.add_argument(
    "--split_list",
    default="default",
    metavar="NAME",
    help="the list of splits/ whose test tasks count, with --data_dir",
  )
  metaicl = _add_benchmark(
    names,
    "metaicl",
    "MetaICL: macro-F1 or accuracy over tasks and seeds",
    "TASK-test-METHOD-k=16-s=SEED.txt, a prediction on each line, or JSON "
    "lines with 'task', 'prediction', 'output' and 'seed'",
  )
  metaicl.add_argument(
    "--setting",
    metavar="NAME",
    help="score its target tasks, such as hr_to_lr, and those of unseen domains",
  )
  _add_benchmark(
    names,
    "p3",
    "P3: T0's rank classification over templates and data sets",
    "TASK-STEP.jsonl as seqio writes them, or JSON lines with 'task', 'idx', "
    "'is_correct', 'score' and 'length'",
  )
  _add_benchmark(
    names,
    "own",
    "anybody's answers: accuracy, ROUGE-L, macro-F1, log-likelihood, with "
    "intervals",
    "JSON lines with 'prediction' and 'output', as `hyperjax predict` writes them",
    has_data=False,
  )


def _add_benchmark(
  names: Any, name: str, summary: str, format_: str, has_data: bool = True
) -> argparse.ArgumentParser:
  parser = names.add_parser(
    name, help=summary, description=summary + ".", allow_abbrev=False
  )
  parser.add_argument(
    "files",
    nargs="+",
    type=pathlib.Path,
    metavar="FILE",
    help=f"predictions, or a folder of them: {format_}",
  )
  if has_data:
    parser.add_argument(
      "--data_dir",
      type=pathlib.Path,
      metavar="FOLDER",
      help=f"the folder that holds {name}/, or the benchmark's own",
    )
  parser.add_argument(
    "--json", metavar="OUT", help="also written here; - prints it instead"
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )
  return parser


def run(arguments: argparse.Namespace) -> None:
  """Scores what the arguments name, prints the table, writes the JSON.

  Raises:
    ValueError: a file is missing or broken; the message names file and line.
  """
  if arguments.json == "-":
    print(_score(arguments).to_json(), end="")
    return
  if arguments.json:
    files.require_folder(pathlib.Path(arguments.json).parent, "--json")
    if pathlib.Path(arguments.json).is_dir():
      raise ValueError(f"--json must name a file, {arguments.json} is a folder")
  result = _score(arguments)
  if arguments.json:
    paths.replace(pathlib.Path(arguments.json), result.to_json())
  print(result.table())


def _score(arguments: argparse.Namespace) -> Any:
  if arguments.benchmark == "own":
    from hyperjax.scores import own  # imports numpy

    return own.score_files(arguments.files)
  folder = arguments.data_dir
  if folder is not None:
    folder = official_report.benchmark_folder(folder, arguments.benchmark)
  if arguments.benchmark == "sni":
    from hyperjax.evaluation.official import sni

    return sni.score_files(
      arguments.files, folder, arguments.references, arguments.split_list
    )
  if arguments.benchmark == "metaicl":
    from hyperjax.evaluation.official import metaicl

    return metaicl.score_files(arguments.files, folder, arguments.setting)
  from hyperjax.evaluation.official import p3

  return p3.score_files(arguments.files, folder)
