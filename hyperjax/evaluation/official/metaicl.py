"""MetaICL as its authors score it (Min et al., 2022).

The source is facebookresearch/MetaICL: `MetaICLData.evaluate` for one task and
seed, test.py for the files of predictions, and the README for the figures of a
setting: for each task the mean and the worst over seeds, of macro-F1 where it is
classification and of accuracy elsewhere, then the mean over tasks.

No target of the released settings is free-form: test.py chooses among options, of
which it wants two or more. Such a task in a setting of one's own is scored by the
same `evaluate`, so by accuracy of whole texts, with ROUGE-L beside it.
"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.evaluation.official import metaicl_files
from hyperjax.evaluation.official.metaicl_files import Run, Truth
from hyperjax.scores import official_report, text_metrics


def evaluate(
  predictions: Sequence[str], truths: Sequence[Truth], is_classification: bool
) -> float:
  """Macro-F1 over the classes of the truths, or accuracy; from 0 to 1.

  A prediction of a class that no truth has only costs recall. White space
  around texts does not count. A truth of several strings, which only accuracy
  knows, is met by any of them.
  """
  pairs = [
    (prediction.strip(), _stripped(truth))
    for prediction, truth in zip(predictions, truths, strict=True)
  ]
  if not is_classification:
    hits = [
      prediction == truth if isinstance(truth, str) else prediction in truth
      for prediction, truth in pairs
    ]
    return sum(hits) / len(hits)
  classes = list(dict.fromkeys(truth for _, truth in pairs))
  return sum(_f1(pairs, label) for label in classes) / len(classes)


def _f1(pairs: Sequence[tuple[str, Truth]], label: Truth) -> float:
  num_predicted = sum(prediction == label for prediction, _ in pairs)
  num_true = sum(truth == label for _, truth in pairs)
  num_right = sum(prediction == truth == label for prediction, truth in pairs)
  return 2 * num_right / (num_predicted + num_true)


def _stripped(truth: Truth) -> Truth:
  if isinstance(truth, str):
    return truth.strip()
  return tuple(text.strip() for text in truth)


def score_files(
  paths: Sequence[pathlib.Path],
  folder: pathlib.Path | None = None,
  setting: str | None = None,
) -> official_report.Report:
  """Figures of files of predictions.

  Args:
    paths: of test.py's .txt files, with a prediction on each line, or of JSON
      lines that are MetaICL's own with a `prediction` and a `seed` added; or
      folders of them.
    folder: MetaICL's, of `data/` and `config/`. JSON lines need none where they
      have a `task_type`.
    setting: of `folder`, the one whose target tasks are scored.

  Raises:
    ValueError: a file is broken, a task is unknown or given twice, or has more
      or fewer predictions than test lines.
  """
  runs: dict[tuple[str, str], Run] = {}
  for path in official_report.prediction_files(paths, (".txt", ".jsonl")):
    if path.suffix == ".txt":
      metaicl_files.read_text(path, folder, runs)
    else:
      metaicl_files.read_json_lines(path, folder, runs)
  return score_runs(runs, *metaicl_files.setting_tasks(folder, setting))


def score_runs(
  runs: Mapping[tuple[str, str], Run],
  wanted: Sequence[str] | None = None,
  unseen: Sequence[str] = (),
) -> official_report.Report:
  """Figures of runs by task and seed.

  Args:
    runs: by (task, seed).
    wanted: tasks that count, all of which must be there; by default all.
    unseen: those whose domain no training task has, which get a mean too.

  Raises:
    ValueError: a task that is wanted has no predictions.
  """
  present = sorted({task for task, _ in runs})
  names = present if wanted is None else list(wanted)
  missing = [name for name in names if name not in present]
  if missing:
    raise ValueError(
      f"no predictions of {len(missing)} of the setting's {len(names)} tasks: "
      f"{', '.join(missing[:5])}"
    )
  notes = []
  if len(names) < len(present):
    others = [name for name in present if name not in names]
    notes.append(
      "left out, since the setting lacks them: "
      f"{official_report.counted(len(others), 'task')} ({', '.join(others[:5])})"
    )
  tasks, by_seed = {}, {}
  for name in names:
    own = {seed: run for (task, seed), run in runs.items() if task == name}
    tasks[name], by_seed[name] = _of_task(own)
  overall = _mean(tasks)
  groups = {"tasks": tasks}
  free_form = {name: _rouge_l(name, runs) for name in names}
  free_form = {name: row for name, row in free_form.items() if row}
  if free_form:
    groups["free-form"] = free_form
  if unseen:
    domains = {"unseen": _mean({name: tasks[name] for name in unseen})}
    groups = {"domains": domains, **groups}
  notes += _notes({key: run for key, run in runs.items() if key[0] in tasks})
  return official_report.Report(
    "metaicl", overall, groups, notes, extra={"seeds": by_seed}
  )


def _of_task(
  own: Mapping[str, Run],
) -> tuple[dict[str, Any], dict[str, float]]:
  task_type = next(iter(own.values())).task_type
  is_classification = task_type == "classification"
  values = {
    seed: 100
    * evaluate(own[seed].predictions, own[seed].truths, is_classification)
    for seed in sorted(own, key=lambda seed: (len(seed), seed))
  }
  figures = {
    "metric": "macro-F1" if is_classification else "accuracy",
    "mean": sum(values.values()) / len(values),
    "worst": min(values.values()),
    "seeds": len(values),
    "predictions": sum(len(run.predictions) for run in own.values()),
  }
  return figures, values


def _rouge_l(name: str, runs: Mapping[tuple[str, str], Run]) -> dict[str, Any]:
  """Mean over seeds of a free-form task's ROUGE-L; nothing of another task."""
  values = [
    statistics.fmean(
      text_metrics.rouge_l(
        prediction, [truth] if isinstance(truth, str) else truth
      )
      for prediction, truth in zip(run.predictions, run.truths, strict=True)
    )
    for (task, _), run in runs.items()
    if task == name and run.task_type == "free-form"
  ]
  return {"rougeL": 100 * statistics.fmean(values)} if values else {}


def _mean(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  figures: dict[str, Any] = {
    name: sum(row[name] for row in tasks.values()) / len(tasks)
    for name in ("mean", "worst")
  }
  return {**figures, "tasks": len(tasks)}


def _notes(runs: Mapping[tuple[str, str], Run]) -> list[str]:
  notes = []
  seeds = {seed for _, seed in runs}
  short = sorted(
    {task for task, _ in runs}
    - {task for task, _ in runs if all((task, seed) in runs for seed in seeds)}
  )
  if short:
    notes.append(
      f"fewer seeds than the {len(seeds)} of others: "
      f"{official_report.counted(len(short), 'task')} ({', '.join(short[:5])})"
    )
  strange = [run for run in runs.values() if run.num_strange]
  if strange:
    number = sum(run.num_strange for run in strange)
    notes.append(
      "none of their options, so wrong: "
      f"{official_report.counted(number, 'prediction')}, such as in {strange[0].where}"
    )
  blank = [run for run in runs.values() if run.num_blank]
  if blank:
    number = sum(run.num_blank for run in blank)
    notes.append(
      "blank right answers, which a blank prediction meets: "
      f"{official_report.counted(number, 'line')}, such as in {blank[0].where}"
    )
  return notes
