"""What the paper's tables say of an evaluation: docs/paper.md, read as it stands.

That page is beside this file (a link in a checkout), so that a report finds it
wherever the package is installed.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

PAGE = pathlib.Path(__file__).with_name("paper.md")
# A column of rows that names what is trained: problem, whether the T5 is trained
# with the hypermodel, and whether it reads demonstrations.
_TRAINED = {
  "hypermodel": ("HyperTuning", False, True),
  "hypermodel and T5": ("HyperTuning", True, True),
  "one adapter": ("AdapterFineTuning", False, False),
  "T5": ("FullFineTuning", False, False),
  "T5 with examples": ("FullFineTuning", False, True),
}
_KINDS = {"prefix": "PrefixSpec", "lora": "LoraSpec", "none": None}
_SIZES = ("emb_dim", "mlp_dim", "num_heads", "num_encoder_layers")

Row = Mapping[str, str]


def describe(problem: Any) -> dict[str, Any]:
  """What a row is found by of a problem, as results hold it under "model"."""
  spec = getattr(problem, "adapters", None)
  return {
    "problem": type(problem).__name__,
    "t5": {name: getattr(problem.backbone, name) for name in _SIZES},
    "adapters": None if spec is None else type(spec).__name__,
    "train_backbone": getattr(problem, "train_backbone", False),
    "reads_demonstrations": problem.reads_demonstrations,
  }


def expected(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """By figure, what the row of an evaluation says; {} where none is of it."""
  model, settings = results.get("model"), results.get("settings", {})
  # A T5 that is no run has no step: it is asked as one that was trained.
  if model is None or results.get("step") is None:
    return {}
  asked = (
    settings["targets"]["mixture_or_task"],
    str(settings["num_demonstrations"]),
    ", ".join(settings["instruction_readers"]),
  )
  for row in rows():
    wanted = (row["tasks"], row["examples"], row["reads the Definition"])
    if is_of(row, model) and wanted == asked:
      return _figures(row)
  return {}


def is_of(row: Row, model: Mapping[str, Any]) -> bool:
  """Whether a row is of a model that `describe` gave."""
  trained = (
    model["problem"],
    model["train_backbone"],
    model["reads_demonstrations"],
  )
  return (
    _TRAINED[row["trained"]] == trained
    and _KINDS[row["adapters"]] == model["adapters"]
    and _sizes()[row["T5"]] == model["t5"]
  )


@functools.cache
def rows() -> list[Row]:
  """Every scored run of the page."""
  found = [row for row in _cells() if "tasks" in row]
  return [{"reads the Definition": "", **row} for row in found]


def _figures(row: Row) -> dict[str, dict[str, Any]]:
  names = {x["column"]: x["figure"] for x in _cells() if "figure" in x}
  return {
    names[column]: {
      "value": float(cell),
      "source": row["source"],
      "certainty": row["sure"],
    }
    for column, cell in row.items()
    if column in names
  }


def _sizes() -> dict[str, dict[str, int]]:
  return {
    row["T5"]: {name: int(row[name]) for name in _SIZES}
    for row in _cells()
    if "emb_dim" in row
  }


@functools.cache
def _cells() -> list[Row]:
  """Every row of every table, its cells by the heading of their column."""
  found, heading = [], None
  for line in PAGE.read_text().splitlines():
    if not line.startswith("|"):
      heading = None
      continue
    cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
    if heading is None:
      heading = cells
    elif not set(cells[0]) <= set("-:"):
      found.append(dict(zip(heading, cells, strict=True)))
  return found
