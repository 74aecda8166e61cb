"""`hyperjax report`: reads the files, writes the page and its Markdown."""

import argparse

from hyperjax import paths
from hyperjax.data import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "paths",
    nargs="+",
    type=paths.argument,
    metavar="PATH",
    help="a run folder, a folder of evaluations, or a NAME-results.json",
  )
  parser.add_argument(
    "--out",
    type=paths.argument,
    metavar="FILE",
    help="the page (report.html beside the first PATH)",
  )
  parser.add_argument(
    "--markdown",
    type=paths.argument,
    metavar="FILE",
    help="its tables as Markdown (the page's name with .md)",
  )
  parser.add_argument(
    "--title", help="of the page (the names of its runs, or their number)"
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )


def run(arguments: argparse.Namespace) -> None:
  """Writes both files and says where.

  Raises:
    ValueError: a path holds nothing to report, or an output cannot be written.
  """
  from hyperjax.report import content, render, run_files  # imports numpy

  given = [path.expanduser() for path in arguments.paths]
  out = arguments.out or given[0].absolute().parent / "report.html"
  markdown = arguments.markdown or out.with_suffix(".md")
  for option, path in (("--out", out), ("--markdown", markdown)):
    if not paths.is_bucket(path):
      files.require_folder(path.absolute().parent, option)
    if path.is_dir():
      raise ValueError(f"{option} {path} is a folder, a file is needed")
  if out.absolute() == markdown.absolute():
    raise ValueError(f"--out and --markdown are the same file, {out}")
  read = [paths.fetched(path, _is_read) for path in given]
  beside = read[0] if paths.is_bucket(out) else out
  loaded = run_files.load(read, beside.absolute().parent)
  page = content.page(loaded, arguments.title)
  paths.replace(out, render.to_html(page))
  paths.replace(markdown, render.to_markdown(page))
  print(f"{out}, {markdown}")


def _is_read(name: str) -> bool:
  """Whether a file of a run is copied out of a bucket: all but its arrays."""
  return not name.startswith(("checkpoints/", "plugins/"))
