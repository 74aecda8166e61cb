"""One evaluation of a run: answered, or gone on with, scored and written."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

import hyperjax
from hyperjax import paths
from hyperjax.evaluation import answered, cost, few_shot, target_loss
from hyperjax.evaluation.answered import Answered
from hyperjax.evaluation.restored import Restored
from hyperjax.scores import results

# Of what is known about a run, what decides its answers besides the weights.
_FACTS = ("step", "problem", "model")


def score(
  evaluation: few_shot.FewShotEvaluation,
  found: Restored,
  folder: pathlib.Path,
  facts: Mapping[str, Any],
  done: list[Answered],
  with_losses: bool = False,
  config: str = "",
) -> dict[str, Any] | None:
  """Writes an evaluation's predictions, results and timings; prints a table.

  The tasks that are answered are kept beside them, for whoever asks again after a
  kill, until `remove` is called for each of `done`.

  Args:
    evaluation: what is asked.
    found: what answers.
    folder: where results go.
    facts: of the run, for the results.
    done: gets the files that keep answers, once results are written.
    with_losses: whether the targets' losses are written too.
    config: gin's, for the folder.

  Returns:
    The results as written; None in all processes but the first.
  """
  trainer, name = found.trainer, evaluation.name
  evaluator = few_shot.Evaluator(evaluation, trainer.problem, trainer.layout)
  answers, losses, kept = _answered(
    evaluator, found, folder, facts, with_losses
  )
  if jax.process_index() != 0:
    return None
  folder.mkdir(parents=True, exist_ok=True)
  if losses is not None:
    target_loss.write(folder, name, target_loss.describe(losses))
  paths.replace(folder / "config.gin", config)
  written = results.write(
    folder,
    name,
    evaluation.metrics,
    answers,
    evaluator.tasks,
    dict(facts)
    | evaluation.describe()
    | cost.describe(trainer, evaluation.feature_lengths),
    evaluation.official if evaluation.figures else None,
  )
  # Apart from the results, which weights, data and seed determine. Where all was
  # answered before, what that took stands.
  timings, file = evaluator.stopwatch.content(), folder / f"{name}-timings.json"
  if timings["controls"] or not file.exists():
    paths.replace(file, json.dumps(timings, indent=1) + "\n")
  done += kept
  print(results.table(written), flush=True)
  return written


def _answered(
  evaluator: few_shot.Evaluator,
  found: Restored,
  folder: pathlib.Path,
  facts: Mapping[str, Any],
  with_losses: bool,
) -> tuple[list[results.Answer], Any, list[Answered]]:
  """Answers, losses if they are asked for, and the files that keep both."""
  layout = found.trainer.layout
  weights = {"params": found.params, "frozen": found.frozen}
  settings = {
    "hyperjax": hyperjax.__version__,
    "weights": answered.fingerprint(weights, layout),
    **{key: facts[key] for key in _FACTS},
    **evaluator.settings(),
  }
  tasks = [task.name for task in evaluator.tasks]
  kept: list[Answered] = []

  def keeping(what: str) -> Answered:
    path = folder / f"{evaluator.evaluation.name}-{what}.jsonl"
    kept.append(Answered(path, settings | {"asked": what}, tasks))
    return kept[-1]

  given, losses = (found.params, found.frozen), None
  answers = evaluator.run(*given, keeping("answered"), is_shown=True)
  if with_losses:
    losses = evaluator.target_losses(
      *given, keeping("answered-losses"), is_shown=True
    )
  return answers, losses, kept
