"""The files that a report is made of, recognised by what they hold.

A run folder is what `hyperjax train` wrote, or what is left of it; a folder of
evaluations, or a results file, is what `hyperjax eval` wrote. What is missing is
None or empty here, and a stated gap on the page.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperjax import metrics
from hyperjax.artifacts import run_file, typed_json
from hyperjax.artifacts.run_record import DataRecord, ProblemRecord, RunRecord
from hyperjax.data import files
from hyperjax.report import document, folders, result_shapes
from hyperjax.report.document import Score
from hyperjax.report.folders import CONFIG, MODEL_INFO, Beginning
from hyperjax.scores import columns
from hyperjax.scores import results as report
from hyperjax.scores.results import Answer, Scored

RESULTS, PREDICTIONS = "-results.json", "-predictions.jsonl"
TIMINGS = "-timings.json"
_EVALUATIONS = "inference_eval"
_IS_RUN = (metrics.METRICS, MODEL_INFO, run_file.CHECKPOINTS)


class Shelf:
  """Every file that was read, with its hash, by its path from the page."""

  def __init__(self, page_folder: pathlib.Path):
    self._folder = page_folder.absolute()
    self.hashes: dict[str, str] = {}

  def add(self, path: pathlib.Path) -> str:
    """Notes a file; returns its path from the page."""
    label = pathlib.Path(os.path.relpath(path, self._folder)).as_posix()
    if label not in self.hashes:
      with path.open("rb") as file:
        self.hashes[label] = hashlib.file_digest(file, "sha256").hexdigest()
    return label


@dataclasses.dataclass(frozen=True)
class Run:
  """A run folder."""

  folder: pathlib.Path
  name: str
  record: RunRecord | None
  begins_with: Beginning | None  # None where that is gone
  is_hyperpretrained: bool | None  # None if unknown
  parameters: Mapping[str, int]  # "trained", "frozen"
  lines: Sequence[Mapping[str, Any]]  # of metrics.jsonl
  files: Mapping[str, str]  # name in the folder -> path from the page

  def sources(self, *names: str) -> list[str]:
    """Paths of those files of it that are there."""
    return [self.files[name] for name in names if name in self.files]

  @property
  def problem(self) -> ProblemRecord:
    """What it trains; of no kind where nothing says so."""
    return self.record.problem if self.record else ProblemRecord("")

  @property
  def data(self) -> DataRecord | None:
    """What it is trained on, as far as it says."""
    return self.record.data if self.record else None

  @property
  def last_step(self) -> int | None:
    """Of those that it has written numbers of."""
    return self.lines[-1]["step"] if self.lines else None

  @property
  def facts(self) -> list[str]:
    """Paths of the files that say what was trained."""
    return [x for name, x in self.files.items() if name != metrics.METRICS]


@dataclasses.dataclass(frozen=True)
class Result:
  """One evaluation."""

  folder: pathlib.Path
  path: str  # of the results file, from the page
  content: Mapping[str, Any]
  run: Run | None
  name: str  # of the run, and of the folder where results are elsewhere
  answers: Sequence[Answer] | None
  predictions_path: str | None
  timings: Mapping[str, Any] | None
  timings_path: str | None
  _scored: dict[str, list[Scored]] = dataclasses.field(
    default_factory=dict, repr=False, compare=False
  )

  def scored(self, metric: str) -> list[Scored]:
    """Every answer in every column, scored once; empty without predictions."""
    if metric not in self._scored:
      self._scored[metric] = report.scored(self.answers or [], [metric])
    return self._scored[metric]

  @property
  def is_inside(self) -> bool:
    """Whether it lies where its run's evaluations do by default."""
    return self.folder.name == _EVALUATIONS

  @property
  def sources(self) -> list[str]:
    """Paths of results and predictions."""
    return [self.path, *filter(None, [self.predictions_path])]

  @property
  def evaluation(self) -> str:
    return self.content["name"]

  @property
  def settings(self) -> Mapping[str, Any]:
    return self.content.get("settings", {})

  @property
  def run_name(self) -> str:
    """Equal for all results of a run."""
    return self.run.name if self.run else self.name

  @property
  def problem(self) -> ProblemRecord:
    """What was trained; of an earlier version's whose run is gone, the kind."""
    if self.run is not None and self.run.record is not None:
      return self.run.problem
    told = self.content.get("model", {"kind": self.content.get("problem", "")})
    return typed_json.read(ProblemRecord, told, self.path, "model")

  @property
  def num_demonstrations(self) -> int | None:
    """How many were drawn; None where that is not recorded."""
    return self.settings.get("num_demonstrations")

  @property
  def num_tasks(self) -> int:
    return self.content.get("num_tasks", len(self.content["tasks"]))

  @property
  def metric(self) -> str:
    """The one that is read first: ROUGE-L where answers are free text."""
    return result_shapes.first_metric(self.content["metrics"])

  @property
  def scores(self) -> Mapping[str, Mapping[str, Any]]:
    return self.content["scores"]

  def score(self, column: str, metric: str | None = None) -> Score:
    """A column's mean over tasks with its interval.

    Where results have no interval, the mean over answers.
    """
    metric = metric or self.metric
    bounds = self.content.get("intervals", {}).get(column, {}).get(metric, {})
    where = f"{self.path}: scores.{column}"
    mean = files.field(self.scores[column], metric, where)
    return document.percent({"mean": mean} | bounds)

  def gain(self, column: str, metric: str | None = None) -> Score | None:
    """What the right answers gain over a column, on the same targets and draws."""
    gains = self.content.get("gains", {}).get(column, {})
    found = gains.get(metric or self.metric)
    return None if found is None else document.percent(found, is_gain=True)

  def cell(self, column: str, metric: str | None = None) -> Score | None:
    """The score, if there is one."""
    is_scored = (metric or self.metric) in self.scores.get(column, {})
    return self.score(column, metric) if is_scored else None

  def label(self, column: str) -> str:
    return columns.label(column, self.content.get("conditions"))

  def labelled(self, found: Iterable[str]) -> list[tuple[str, str]]:
    """Columns in their order, each after its words."""
    return [(self.label(column), column) for column in columns.ordered(found)]

  @property
  def asked(self) -> str:
    """Equal for results of the same targets."""
    rows = self.content["tasks"].keys()
    if self.answers is not None:
      rows = {(answer.task, answer.row) for answer in self.answers}
    return json.dumps(sorted(map(str, rows)))


@dataclasses.dataclass(frozen=True)
class Sources:
  runs: Sequence[Run]
  results: Sequence[Result]
  shelf: Shelf


def load(paths: Sequence[pathlib.Path], page_folder: pathlib.Path) -> Sources:
  """What the paths hold, in their order; what is found twice is taken once.

  Results are in the order of their runs.

  Raises:
    ValueError: a path holds neither a run nor an evaluation, or a broken file.
  """
  shelf = Shelf(page_folder)
  run_folders: dict[pathlib.Path, None] = {}
  found: dict[pathlib.Path, pathlib.Path | None] = {}  # results -> run folder
  for path in paths:
    given, results = _recognised(path.absolute())
    run_folders |= dict.fromkeys(given)
    for file in results:
      own = given[0] if given else _run_of(file)
      found.setdefault(file, own)
      run_folders |= dict.fromkeys([own] if own else [])
  names = _names([*run_folders])
  ancestors = folders.Ancestors([*run_folders])
  runs = {
    folder: _read_run(folder, names[folder], ancestors, shelf)
    for folder in run_folders
  }
  for used in ancestors.used:
    shelf.add(used)
  results = [
    _read_result(file, runs.get(own) if own else None, shelf)
    for file, own in found.items()
  ]
  order = [run.name for run in runs.values()]
  results.sort(key=lambda x: order.index(x.run.name) if x.run else len(order))
  return Sources([*runs.values()], results, shelf)


def _recognised(
  path: pathlib.Path,
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Run folders and results files at a path."""
  if path.is_file():
    return [], [path]
  if not path.is_dir():
    raise ValueError(f"{path}: there is no such folder or file")
  if _is_run(path):
    return [path], sorted((path / _EVALUATIONS).glob("*" + RESULTS))
  results = sorted(path.glob("*" + RESULTS))
  if not results:
    raise ValueError(
      f"{path} holds neither a run ({', '.join(_IS_RUN)}) nor evaluations "
      f"(*{RESULTS})"
    )
  return [], results


def _is_run(folder: pathlib.Path) -> bool:
  return any(os.path.exists(folder / name) for name in _IS_RUN)


def _run_of(results: pathlib.Path) -> pathlib.Path | None:
  """The run that a results file is of, if it is still there."""
  if _is_run(results.parent.parent):
    return results.parent.parent
  named = files.read_json(results).get("checkpoint")
  if isinstance(named, str) and named and _is_run(pathlib.Path(named)):
    return pathlib.Path(named).absolute()
  return None


def _names(folders: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """The shortest ends of paths that tell them apart."""
  names = {}
  for folder in folders:
    for length in range(1, len(folder.parts) + 1):
      end = folder.parts[-length:]
      if sum(x.parts[-length:] == end for x in folders) == 1:
        names[folder] = "/".join(end)
        break
  return names


def _read_run(
  folder: pathlib.Path, name: str, ancestors: folders.Ancestors, shelf: Shelf
) -> Run:
  paths = {}
  for own in (CONFIG, MODEL_INFO, metrics.METRICS):
    if (folder / own).is_file():
      paths[own] = shelf.add(folder / own)
  for path in run_file.sources(folder):
    paths[str(path.relative_to(folder))] = shelf.add(path)
  return Run(
    folder=folder,
    name=name,
    record=ancestors.record(folder),
    begins_with=ancestors.beginning(folder),
    is_hyperpretrained=ancestors.is_hyperpretrained(folder),
    parameters=folders.parameters(folder),
    lines=metrics.read(folder / metrics.METRICS),
    files=paths,
  )


def _read_result(path: pathlib.Path, run: Run | None, shelf: Shelf) -> Result:
  content = columns.renamed(files.read_json(path))
  result_shapes.check_results(content, str(path))
  stem = path.name.removesuffix(RESULTS)
  predictions = path.with_name(stem + PREDICTIONS)
  timings = path.with_name(stem + TIMINGS)
  has_predictions, has_timings = predictions.is_file(), timings.is_file()
  return Result(
    folder=path.parent,
    path=shelf.add(path),
    content=content,
    run=run,
    name=_result_name(path.parent, run),
    answers=_read_answers(predictions) if has_predictions else None,
    predictions_path=shelf.add(predictions) if has_predictions else None,
    timings=_read_timings(timings) if has_timings else None,
    timings_path=shelf.add(timings) if has_timings else None,
  )


def _result_name(folder: pathlib.Path, run: Run | None) -> str:
  if run is None:
    is_inside = folder.name == _EVALUATIONS
    return folder.parent.name if is_inside else folder.name
  if folder == run.folder / _EVALUATIONS:
    return run.name
  return f"{run.name}, {folder.name}"


def _read_answers(path: pathlib.Path) -> list[Answer]:
  return [
    result_shapes.answer(columns.renamed(line), f"{path}, line {number}")
    for number, line in files.read_json_lines(path)
  ]


def _read_timings(path: pathlib.Path) -> Mapping[str, Any]:
  content = columns.renamed(files.read_json(path))
  result_shapes.check_timings(content, str(path))
  return content
