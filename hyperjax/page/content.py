"""The page of some runs and evaluations: what it says, in what order."""

from collections.abc import Sequence

from hyperjax.page import costs, curves, examples, scores, summaries, words
from hyperjax.page.document import (
  Cell,
  Gap,
  Number,
  Page,
  Part,
  Section,
  Table,
)
from hyperjax.page.sources import Run, Sources

_LEAD = (
  "Every target is answered from its own task's demonstrations, and again under "
  "controls. A model that reads its demonstrations does well with its own and "
  "badly with another task's. ✓ a claim holds, ✗ its opposite holds, ? it "
  "cannot be told."
)


def page(sources: Sources) -> Page:
  """Everything that the files say, and what they lack."""
  groups = summaries.groups(sources.results)
  overview: list[Part] = []
  if sources.runs:
    overview.append(_runs(sources.runs))
  for group in groups:
    overview += summaries.summary(group)
  overview += _without_evaluation(sources)
  sections = [Section("Summary", overview)]
  sections += [scores.details(group) for group in groups]
  shots = [part for group in groups for part in curves.by_demonstrations(group)]
  if shots:
    sections.append(Section("More or fewer demonstrations", shots))
  if sources.runs:
    sections.append(curves.learning(sources.runs))
  else:
    gap = Gap("Only evaluations were given, no run folder: no learning curves.")
    sections.append(Section("Learning", [gap]))
  more = [
    curves.further(sources.runs),
    costs.section(sources.runs, sources.results),
    examples.section(sources.results),
    _files(sources),
  ]
  sections += [section for section in more if section is not None]
  names = [run.name for run in sources.runs] or [
    result.name for result in sources.results
  ]
  title = ", ".join(dict.fromkeys(names))
  return Page(
    f"HyperJAX report: {title}", _LEAD, [x for x in sections if x.parts]
  )


def _runs(runs: Sequence[Run]) -> Table:
  """What each run trained, on what, for how long."""
  rows: list[list[Cell]] = []
  for run in runs:
    steps = run.lines[-1]["step"] if run.lines else None
    rows.append(
      [
        run.name,
        words.trained(run),
        words.trained_on(run),
        None if steps is None else Number(steps, f"{steps:,}"),
        run.macros.get("RANDOM_SEED"),
      ]
    )
  files = [
    x for run in runs for x in (*run.facts, *run.sources("metrics.jsonl"))
  ]
  return Table(
    "Runs",
    ("Run", "What was trained", "Trained on", "Steps", "Seed"),
    rows,
    "A dash: not recorded.",
    files,
  )


def _without_evaluation(sources: Sources) -> list[Part]:
  """Runs that nothing here scores."""
  scored = {result.run.name for result in sources.results if result.run}
  without = [run.name for run in sources.runs if run.name not in scored]
  if not without:
    return []
  return [
    Gap(
      f"No evaluation of {', '.join(without)} is given: `hyperjax eval` writes "
      "one."
    )
  ]


def _files(sources: Sources) -> Section:
  rows: list[list[Cell]] = [
    [path, digest] for path, digest in sources.shelf.hashes.items()
  ]
  table = Table(
    "Everything above is from these",
    ("File", "SHA-256"),
    rows,
    "Paths are from this page's folder.",
    [],
  )
  return Section("Files", [table])
