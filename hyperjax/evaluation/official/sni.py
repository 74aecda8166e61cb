"""Super-NaturalInstructions as its authors score it (Wang et al., 2022).

The source is eval/automatic/evaluation.py of allenai/natural-instructions, on
its English track: exact match and ROUGE-L, each the best over an instance's
references, mean over instances, as a percentage of four digits. So is Tk-Instruct's
script. An instance without a prediction counts as an empty one.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.scores import official_report, text_metrics

NUM_TEST_INSTANCES = 100  # of each task, the first ones
_TRACK = "default"
_METRICS = {
  "exact_match": text_metrics.exact_match,
  "rougeL": text_metrics.rouge_l,
}


@dataclasses.dataclass(frozen=True)
class Reference:
  """What an instance's prediction is held against."""

  references: list[str]
  task: str | None = None
  category: str | None = None
  track: str = _TRACK


def score_predictions(
  predictions: dict[str, str], references: dict[str, Reference]
) -> official_report.Report:
  """Figures overall, by category and by task, of predictions by instance id.

  Raises:
    ValueError: no prediction is of an instance of the English track.
  """
  notes = _notes(predictions, references)
  kept = {id_: x for id_, x in references.items() if x.track == _TRACK}
  if not kept:
    raise ValueError(
      f"none of {official_report.counted(len(references), 'reference')} is of the "
      f"English track, {_TRACK!r}, the only one that is scored"
    )
  if not kept.keys() & predictions.keys():
    raise ValueError(
      f"none of {official_report.counted(len(predictions), 'prediction')} is of the "
      f"{len(kept)} instances of the references: the first ids are "
      f"{next(iter(predictions))!r} and {next(iter(kept))!r}"
    )
  scores = {
    id_: {
      name: metric(predictions.get(id_, ""), reference.references)
      for name, metric in _METRICS.items()
    }
    for id_, reference in kept.items()
  }
  groups = {
    "categories": _grouped(scores, kept, "category"),
    "tasks": _grouped(scores, kept, "task"),
  }
  overall = _figures(list(scores.values()))
  named = {f"{name}_{_TRACK}_track": overall[name] for name in _METRICS} | {
    f"{name}_for_{key}_{_TRACK}_track": row[name]
    for rows in groups.values()
    for key, row in rows.items()
    for name in _METRICS
  }
  # `official` is what the authors' script writes.
  return official_report.Report(
    "sni", overall, groups, notes, extra={"official": named}
  )


def _figures(scores: Sequence[dict[str, float]]) -> dict[str, Any]:
  figures: dict[str, Any] = {
    name: round(100.0 * sum(row[name] for row in scores) / len(scores), 4)
    for name in _METRICS
  }
  return {**figures, "instances": len(scores)}


def _grouped(
  scores: dict[str, dict[str, float]], kept: dict[str, Reference], name: str
) -> dict[str, dict[str, Any]]:
  """Figures by category or task; nothing where an instance has none."""
  groups: dict[str, list[dict[str, float]]] = {}
  for id_, reference in kept.items():
    key = getattr(reference, name)
    if key is None:
      return {}
    if name == "category":
      key = "_".join(key.lower().split())
    groups.setdefault(key, []).append(scores[id_])
  return {key: _figures(groups[key]) for key in sorted(groups)}


def _notes(
  predictions: dict[str, str], references: dict[str, Reference]
) -> list[str]:
  own = [id_ for id_, x in references.items() if x.track == _TRACK]
  missing = [id_ for id_ in own if id_ not in predictions]
  unknown = [id_ for id_ in predictions if id_ not in references]
  notes = []
  if missing:
    notes.append(
      f"no prediction, so scored as an empty one: {len(missing)} of "
      f"{official_report.counted(len(own), 'instance')} ({_some(missing)})"
    )
  if unknown:
    notes.append(
      "left out, since the references lack them: "
      f"{official_report.counted(len(unknown), 'prediction')} ({_some(unknown)})"
    )
  if len(own) < len(references):
    notes.append(
      "left out, being of another track, which takes GPT-2's tokenizer: "
      f"{official_report.counted(len(references) - len(own), 'instance')}"
    )
  for name in ("category", "task"):
    if any(getattr(references[id_], name) is None for id_ in own):
      notes.append(f"no figures by {name}: the references do not say it")
  return notes


def _some(names: Sequence[str]) -> str:
  return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def score_files(
  paths: Sequence[pathlib.Path],
  folder: pathlib.Path | None = None,
  reference_file: pathlib.Path | None = None,
  split_list: str = "default",
) -> official_report.Report:
  """Figures of files of predictions.

  Args:
    paths: JSON lines, or folders of them. A line has `id` and `prediction`, or
      Tk-Instruct's `Instance` and `Prediction`.
    folder: of `tasks/` and `splits/`: its test instances are the references.
    reference_file: the authors' JSON lines, instead of `folder`. Without
      either, lines must hold their own references.
    split_list: of `folder`'s splits, the one whose test tasks count.

  Raises:
    ValueError: a file is broken, an id stands twice, or references are missing.
  """
  if reference_file is not None and folder is not None:
    raise ValueError("--references and --data_dir exclude each other")
  predictions: dict[str, str] = {}
  own: dict[str, Reference] = {}
  places: dict[str, str] = {}
  is_own_needed = reference_file is None and folder is None
  for path in official_report.prediction_files(paths, (".jsonl",)):
    for where, row in official_report.rows(path):
      id_, text = _prediction(row, where)
      _note_place(places, id_, where)
      predictions[id_] = text
      if is_own_needed:
        own[id_] = _own_reference(row, where)
  if reference_file is not None:
    return score_predictions(predictions, read_references(reference_file))
  if folder is not None:
    references = test_references(folder, split_list)
    return score_predictions(predictions, references)
  return score_predictions(predictions, own)


def read_references(path: pathlib.Path) -> dict[str, Reference]:
  """By instance id, the authors' file of references.

  Raises:
    ValueError: a line has no id or reference, or the id of another; there is no
      such file.
  """
  found: dict[str, Reference] = {}
  places: dict[str, str] = {}
  if not path.is_file():
    raise ValueError(f"--references: there is no file {path}")
  for where, row in official_report.rows(path):
    id_ = files.text_field(row, "id", where)
    _note_place(places, id_, where)
    found[id_] = _reference(row, where)
  return found


def test_references(
  folder: pathlib.Path, split_list: str = "default"
) -> dict[str, Reference]:
  """By instance id, the first 100 instances of each test task of a list.

  Raises:
    ValueError: the list or a task's file is not there or not as published.
  """
  listing = folder / "splits" / split_list / "test_tasks.txt"
  if not listing.is_file():
    raise ValueError(f"--data_dir, --split_list: there is no file {listing}")
  names = " ".join(files.read_lines(listing)).split()
  if not names or len(set(names)) < len(names):
    raise ValueError(f"{listing} must name tasks, each of them once")
  paths = [folder / "tasks" / f"{name}.json" for name in names]
  missing = [path.stem for path in paths if not files.is_file(path)]
  if missing:
    raise ValueError(
      f"{listing} names {official_report.counted(len(missing), 'task')} without a file "
      f"in {folder / 'tasks'}: {_some(missing)}; --split_list names a shorter "
      "list, --references a file of references"
    )
  found: dict[str, Reference] = {}
  places: dict[str, str] = {}
  for path in paths:
    task = files.read_json(path)
    category = _category(task, str(path))
    for where, row in _instances(task, path):
      id_ = files.text_field(row, "id", where)
      _note_place(places, id_, where)
      found[id_] = Reference(_outputs(row, where), path.stem, category)
  return found


def _instances(
  task: dict[str, Any], path: pathlib.Path
) -> list[tuple[str, Any]]:
  """The instances of a test task that count, each with its place."""
  instances = files.field(task, "Instances", str(path))
  if not isinstance(instances, list) or not instances:
    raise ValueError(f"{path}: 'Instances' has no entry")
  counting = instances[:NUM_TEST_INSTANCES]
  return [(f"{path}, Instances {i}", row) for i, row in enumerate(counting)]


def _prediction(row: dict[str, Any], where: str) -> tuple[str, str]:
  if "Instance" in row:
    id_ = files.text_field(row["Instance"], "id", f"{where}: 'Instance'")
    return id_, files.text_field(row, "Prediction", where)
  id_ = files.text_field(row, "id", where)
  return id_, files.text_field(row, "prediction", where)


def _own_reference(row: dict[str, Any], where: str) -> Reference:
  if "Instance" in row:
    categories = row.get("Categories")
    return Reference(
      _outputs(row["Instance"], f"{where}: 'Instance'"),
      _optional_text(row, "Task", where),
      None if categories is None else _category(row, where),
    )
  if "references" not in row:
    raise ValueError(
      f"{where} has no 'references': --references names the authors' file of "
      "them, or --data_dir the folder of the tasks"
    )
  return _reference(row, where)


def _reference(row: dict[str, Any], where: str) -> Reference:
  return Reference(
    files.text_list(row, "references", where, at_least=1),
    _optional_text(row, "task_id", where),
    _optional_text(row, "task_category", where),
    _optional_text(row, "track", where) or _TRACK,
  )


def _note_place(places: dict[str, str], id_: str, where: str) -> None:
  if id_ in places:
    raise ValueError(
      f"{where}: id {id_!r} stands twice, first in {places[id_]}"
    )
  places[id_] = where


def _optional_text(row: dict[str, Any], name: str, where: str) -> str | None:
  return files.text_field(row, name, where) if name in row else None


def _outputs(instance: Any, where: str) -> list[str]:
  """All right answers; in older task files a single string."""
  return files.text_list(instance, "output", where, at_least=1, takes_text=True)


def _category(task: Any, where: str) -> str:
  return files.text_list(
    task, "Categories", where, at_least=1, takes_text=True
  )[0]
