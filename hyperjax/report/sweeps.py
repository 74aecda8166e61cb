"""Runs that differ in a few settings, the best first: what a sweep came to."""

import pathlib
import re
from collections.abc import Mapping, Sequence

from hyperjax.report import summaries
from hyperjax.report.document import Cell, Number, Score, Table
from hyperjax.report.folders import CONFIG
from hyperjax.report.run_files import Result, Run
from hyperjax.scores import columns

_MOST = 6  # settings in which runs of a sweep differ
# Where files lie, and what is not of what is learned.
_PLACES = ("_DIR", "_PATH", "VOCABULARY", "USE_CACHED_TASKS", ".run", ".path")


def table(runs: Sequence[Run], groups: Sequence[Sequence[Result]]) -> Table:
  """A row for each run: its own settings, then what it came to; or no row at all.

  Args:
    runs: that may be a sweep.
    groups: results of the same targets, each group.
  """
  found = {run.name: settings(run.folder / CONFIG) for run in runs}
  differing = _differing(list(found.values()))
  head, rows = ["Run"], []
  if len(runs) > 1 and 0 < len(differing) <= _MOST:
    head += [
      *map(_short, differing),
      *map(summaries.title, groups),
      "Last loss",
    ]
    ranked = sorted(
      (_figures(run, groups), -i, run) for i, run in enumerate(runs)
    )
    rows = [
      [
        run.name,
        *(found[run.name].get(x) for x in differing),
        *_cells(run, groups),
      ]
      for _, _, run in reversed(ranked)
    ]
  return Table(
    "What these runs differ in, the best first",
    head,
    rows,
    "Settings are those of config.gin. Scores are from right demonstrations; by the "
    "first of them, then by the loss, runs are sorted.",
    [x for run in runs for x in run.sources(CONFIG)] if rows else [],
  )


def settings(path: pathlib.Path) -> dict[str, str]:
  """What a run's configuration binds, each value in one line; none without a file."""
  if not path.is_file():
    return {}
  text = re.sub(r"^#.*$", "", path.read_text(), flags=re.MULTILINE)
  found = re.findall(
    r"^([\w./]+) = (.*(?:\n[ })\]].*)*)", text, flags=re.MULTILINE
  )
  return {
    name: " ".join(value.replace("\\\n", " ").split()) for name, value in found
  }


def _differing(found: Sequence[Mapping[str, str]]) -> list[str]:
  """Names of what is not the same in all."""
  names = dict.fromkeys(name for own in found for name in own)
  return [
    name
    for name in names
    if len({own.get(name) for own in found}) > 1 and not name.endswith(_PLACES)
  ]


def _short(name: str) -> str:
  """The parameter, with what it is of."""
  return ".".join(name.rpartition("/")[2].split(".")[-2:])


def _of(run: Run, group: Sequence[Result]) -> Score | None:
  for result in group:
    if result.run is not None and result.run.folder == run.folder:
      return result.cell(columns.RIGHT)
  return None


def _loss(run: Run) -> float | None:
  losses = [line["loss"] for line in run.lines if "loss" in line]
  return losses[-1] if losses else None


def _figures(run: Run, groups: Sequence[Sequence[Result]]) -> tuple[float, ...]:
  """By which runs are sorted: the more the better."""
  scores = [_of(run, group) for group in groups]
  loss = _loss(run)
  lowest = float("-inf")
  return (
    *(lowest if score is None else score.value for score in scores),
    lowest if loss is None else -loss,
  )


def _cells(run: Run, groups: Sequence[Sequence[Result]]) -> list[Cell]:
  loss = _loss(run)
  shown = None if loss is None else Number(loss, f"{loss:.4f}")
  return [*(_of(run, group) for group in groups), shown]
