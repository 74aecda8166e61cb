"""Runs and evaluations as files, small enough to work out by hand."""

import json
import pathlib
import re
from html import parser

from hyperjax import main, metrics
from hyperjax.artifacts import run_file, run_record
from hyperjax.artifacts.typed_json import Tagged
from hyperjax.scores import results
from tests.data import rows

FACTS = {"checkpoint": "gone", "step": 7, "backbone": {}}
SETTINGS = {
  "targets": {"mixture_or_task": "animals", "split": "test"},
  "num_demonstrations": 2,
  "draws": 1,
  "feature_lengths": {"demonstrations": 16, "inputs": 8, "targets": 4},
  "rows_per_context": 5,
}
ALL_RIGHT = {"right": 1, "none": 0, "other": 0}


def answers(
  right_of: dict[str, str], predictions=None, category=None
) -> list[results.Answer]:
  """Of each task as many as it has letters: r is answered right, w wrong.

  Under the controls of `predictions` all are right, 1, or wrong, 0.
  """
  found = []
  for task, pattern in right_of.items():
    for row, letter in enumerate(pattern):
      values = {"none": 0, "other": 0} if predictions is None else predictions
      own = {name: "yes" if x else "no" for name, x in values.items()}
      found.append(
        results.Answer(
          task=task,
          row=row,
          draw=0,
          input=f"is {task} {row}?",
          target="yes",
          references=["yes"],
          demonstrations=[["is it?", "yes"]],
          other_task="another",
          category=None if category is None else category[task],
          predictions={"right": "yes" if letter == "r" else "no", **own},
        )
      )
  return found


def write_result(
  folder: pathlib.Path, name: str, found: list[results.Answer], **facts
) -> dict:
  """As `hyperjax eval` writes results and predictions."""
  facts = FACTS | {"settings": SETTINGS} | facts
  tasks = [
    rows.task(task, [([5], [6])])
    for task in dict.fromkeys(answer.task for answer in found)
  ]
  return results.write(folder, name, ["equal"], found, tasks, facts)


def write_run(
  folder: pathlib.Path,
  lines: list[dict] | None = None,
  initial: str | None = None,
  problem: str = "HyperTuning",
  was: str | None = None,
  data: str = "FewShotEpisodes",
  **configuration,
) -> None:
  """As `hyperjax train` leaves it: config, record, parameters, metrics.

  `adapters` are given as their size; `was` is where the run was trained.
  """
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.gin").write_text("RANDOM_SEED = 3\n")
  (folder / "model-info.txt").write_text(
    "trained: 1,234 parameters\nfrozen: 98,765,432 parameters\n"
  )
  size = configuration.get("adapters")
  if size is not None:
    kinds = {
      "rank": "LoraSpec",
      "length": "PrefixSpec",
      "slots": "Ia3Spec",
      "ranks": "PlacedLoraSpec",
    }
    configuration["adapters"] = Tagged(kinds[next(iter(size))], size)
  run_file.write(
    folder,
    run_record.RunRecord(
      run_record.ProblemRecord(problem, configuration),
      initial_checkpoint=initial,
      folder=was or str(folder),
      versions={"hyperjax": "1"},
      data=run_record.DataRecord(3, 1, data, "plants", "train"),
    ),
  )
  text = "".join(json.dumps(line) + "\n" for line in lines or [])
  if lines is not None:
    (folder / metrics.METRICS).write_text(text)


def side_by_side(curves: dict[str, list[float]], rate=0.5) -> list[dict]:
  """The lines of a run that trains a task each: losses by task, every 10 steps."""
  lines: list[dict] = [{"step": 1, "loss": 1.0, "learning_rate": rate}]
  for i, losses in enumerate(zip(*curves.values(), strict=True)):
    own = dict(zip(curves, losses, strict=True))
    lines.append(
      {"step": 10 * i, "held_out/loss": sum(losses) / len(losses)}
      | {f"held_out/loss/{task}": loss for task, loss in own.items()}
      | {"held_out/equal": 0.5}
      | {f"held_out/equal/{task}": 0.5 for task in own}
    )
  return lines


def make_page(folder, *paths, **options) -> "Read":
  """The page of some paths, read."""
  given = [f"--{name}={value}" for name, value in options.items()]
  status = main.main(
    ["report", *map(str, paths), f"--out={folder}/page.html", *given]
  )
  assert status == 0
  return Read((folder / "page.html").read_text())


class Read(parser.HTMLParser):
  """Tables by title, other text, and every element of a page."""

  def __init__(self, page: str):
    super().__init__()
    self.tables: dict[str, list[list[str]]] = {}
    self.elements: list[tuple[str, dict]] = []
    self.text = ""
    self._title, self._open = "", []
    self.feed(page)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag in ("h3", "summary"):
      self._title = ""
    if tag == "table":
      self.tables[self._title] = []
    if tag == "tr":
      self.tables[self._title].append([])
    if tag in ("td", "th"):
      self.tables[self._title][-1].append("")
    self._open.append(tag)

  def handle_endtag(self, tag):
    while self._open and self._open.pop() != tag:
      pass

  def handle_data(self, data):
    self.text += data
    if self._open and self._open[-1] in ("h3", "summary"):
      self._title += re.sub(r" \([\d,]+ rows\)$", "", data)
    if {"td", "th"} & set(self._open):
      self.tables[self._title][-1][-1] += data


def rows_of(markdown: str) -> list[list[str]]:
  """The rows of all tables of a Markdown text, without what is escaped."""
  rows = []
  for line in markdown.splitlines():
    if line.startswith("| "):
      plain = line.replace("\\|", "\0").replace("\\", "")
      cells = plain.strip("| ").split(" | ")
      rows.append([x.strip().replace("\0", "|") for x in cells])
  return rows
