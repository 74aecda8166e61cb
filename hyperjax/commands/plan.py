"""`hyperjax plan`: what a run needs of devices that are not there, before it is run."""

import argparse
import json
import pathlib
import sys
from typing import Annotated, Any

from hyperjax import checks, paths

DOES_NOT_FIT = 3  # exit status
# More than any machine has, and few enough for the host to stand for them.
_NumDevices = Annotated[int, checks.Whole(1, 1024)]


def add_options(command: argparse.ArgumentParser) -> None:
  """What it takes beside gin's."""
  command.add_argument(
    "--topology",
    metavar="NAME",
    help="plan for TPUs, such as v5e:8x8 or v5p:4x4x4; needs hyperjax[plan]",
  )
  command.add_argument(
    "--gpu", metavar="NAME", help="plan for GPUs, such as h100"
  )
  checks.add_option(
    command,
    "--devices",
    _NumDevices,
    "how many GPUs, or devices of this host (1 of a GPU)",
  )
  command.add_argument(
    "--search",
    action="store_true",
    help="look for microbatches, rematerialisation and a mesh that are best",
  )
  checks.add_option(
    command,
    "--search_minutes",
    checks.Count,
    "after which nothing more is tried (10)",
    default=10,
  )
  command.add_argument(
    "--json",
    type=pathlib.Path,
    metavar="OUT",
    help="write the plan to this file too",
  )


def prepare(options: argparse.Namespace) -> None:
  """What has to be set before JAX is imported.

  Raises:
    ValueError: the options name no target, or OUT cannot be written.
  """
  from hyperjax.data import files
  from hyperjax.planning import targets

  targets.prepare(options.topology, options.gpu, options.devices)
  if options.json is not None:
    path = options.json.expanduser().absolute()
    files.require_folder(path.parent, "--json")
    if path.is_dir():
      raise ValueError(f"--json {options.json} is a folder, a file is needed")


class PlanOf:
  """A run, to be planned instead of executed."""

  def __init__(self, run: Any, options: argparse.Namespace):
    self.run, self._options = run, options

  def execute(self, config: str = "") -> int:
    """Prints the plan; returns the exit status, `DOES_NOT_FIT` if so.

    Raises:
      ValueError: the run cannot be on such devices at all.
    """
    del config
    from hyperjax.planning import of_run, plan, search, targets, text

    given = self._options
    target = targets.of(given.topology, given.gpu, given.devices)
    if given.search:
      found = search.best(
        self.run, target, 60.0 * given.search_minutes, _progress
      )
      print(search.text(found), flush=True)
      content = search.content(found)
      fits = any(each.plan.fits for each in found)
    else:
      jobs = of_run.programs(self.run, target.devices)
      for job in jobs:
        _progress(f"compiling {job.what} for {target.name}")
      made = plan.made(target, jobs)
      print(text.of_plan(made), flush=True)
      content, fits = made.content(), made.fits
    if given.json is not None:
      self._write(content)
    return 0 if fits else DOES_NOT_FIT

  def _write(self, content: Any) -> None:

    written = json.dumps(content, indent=1) + "\n"
    paths.replace(self._options.json.expanduser(), written)


def _progress(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
