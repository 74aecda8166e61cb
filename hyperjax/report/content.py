"""The page of some runs and evaluations: what it says, in what order."""

from collections.abc import Sequence

from hyperjax.report import (
  beginnings,
  costs,
  details,
  document,
  examples,
  further,
  learning,
  overview,
  shots,
  summaries,
  sweeps,
  words,
)
from hyperjax.report.document import Gap, Page, Part, Section, Table, Text
from hyperjax.report.run_files import Run, Sources

_LEAD = (
  "Every target is answered from its own task's demonstrations, and again under "
  "controls. A model that reads its demonstrations does well with its own and "
  "badly with another task's. ✓ a claim holds, ✗ its opposite holds, ? it "
  "cannot be told."
)
_SHOTS_APART = (
  "Runs are compared with one number of demonstrations, which their tables name; "
  "the others are under “More or fewer demonstrations”."
)
_MOST_NAMES = 3  # in a title


def page(sources: Sources, title: str | None = None) -> Page:
  """Everything that the files say, and what they lack.

  Of an evaluation with several numbers of demonstrations one is compared between
  runs (`summaries.main`); all of them are in the details.
  """
  groups = summaries.groups(sources.results)
  compared = [summaries.main(group) for group in groups]
  small = [x for x in compared if not summaries.is_large(x)]
  large = [x for x in compared if summaries.is_large(x)]
  more = [part for group in groups for part in shots.by_demonstrations(group)]
  further_trained = beginnings.groups(sources.runs)
  first: list[Part] = [
    sweeps.table(sources.runs, compared),
    overview.what_holds(compared),
    *([Text(_SHOTS_APART)] if more else []),
    *(part for group in small for part in summaries.summary(group)),
    *(x for own in further_trained for x in beginnings.findings(own)),
    *_without_evaluation(sources),
  ]
  shown = [
    document.section("Summary", first),
    document.section("What was trained", [_runs(sources.runs)]),
    *(
      Section(f"Scores: {summaries.title(group)}", summaries.summary(group))
      for group in large
    ),
    overview.side_by_side(compared),
    Section("More or fewer demonstrations", more),
    further.section(further_trained),
    learning.section(sources.runs),
    costs.section(sources.runs, sources.results),
    *map(details.section, groups),
    examples.section([x for group in compared for x in group]),
    _files(sources),
  ]
  title = title or f"HyperJAX report: {_named(sources)}"
  return Page(title, _LEAD, [x for x in shown if x.parts])


def _named(sources: Sources) -> str:
  """The names of a few runs, the number of many with what scored them."""
  names = dict.fromkeys(x.name for x in sources.runs or sources.results)
  if len(names) <= _MOST_NAMES:
    return ", ".join(names)
  evaluations = dict.fromkeys(x.evaluation for x in sources.results)
  counted = f"{len(names)} {'runs' if sources.runs else 'results'}"
  if not evaluations:
    return counted
  if len(evaluations) <= _MOST_NAMES:
    return f"{counted} on {', '.join(evaluations)}"
  return f"{counted}, {len(evaluations)} evaluations"


def _runs(runs: Sequence[Run]) -> Table:
  """What each run trained, on what, for how long."""
  files = [
    x for run in runs for x in (*run.facts, *run.sources("metrics.jsonl"))
  ]
  return document.cross(
    "Runs",
    "Run",
    [(run.name, run) for run in runs],
    [
      ("What was trained", words.trained),
      ("Begins with", words.begun),
      ("Trained on", words.trained_on),
      ("Steps", lambda run: document.whole(run.last_step)),
      ("Seed", lambda run: run.data and str(run.data.seed)),
    ],
    lambda run, shown: shown(run),
    "A dash: not recorded.",
    files,
  )


def _without_evaluation(sources: Sources) -> list[Part]:
  """Runs that nothing here scores."""
  scored = {result.run.name for result in sources.results if result.run}
  without = [
    run.name
    for run in sources.runs
    # Adapters of a task each are scored while they are trained.
    if run.name not in scored and not beginnings.task_curves(run)
  ]
  names = ", ".join(without)
  gap = f"No evaluation of {names} is given: `hyperjax eval` writes one."
  return [Gap(gap)] if without else []


def _files(sources: Sources) -> Section:
  rows = [[path, digest] for path, digest in sources.shelf.hashes.items()]
  table = Table(
    "Everything above is from these",
    ("File", "SHA-256"),
    rows,
    "Paths are from this page's folder.",
    [],
  )
  return Section("Files", [table])
