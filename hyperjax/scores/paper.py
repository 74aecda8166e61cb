"""What the paper's tables say of an evaluation: docs/paper.md, read as it stands.

That page is beside this file (a link in a checkout), so that a report finds it
wherever the package is installed.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from hyperjax.artifacts import typed_json
from hyperjax.artifacts.run_record import ProblemRecord

PAGE = pathlib.Path(__file__).with_name("paper.md")
# What a row says is trained, and whether a record is of that.
_TRAINED: dict[str, Callable[[ProblemRecord], bool]] = {
  "hypermodel": lambda x: x.writes_adapters and not x.trains_jointly,
  "hypermodel and T5": lambda x: x.trains_jointly,
  "one adapter": lambda x: x.trains_adapters and x.num_tasks == 1,
  "T5": lambda x: x.fine_tunes_t5 and not x.reads_demonstrations,
  "T5 with examples": lambda x: (
    x.fine_tunes_t5 and bool(x.reads_demonstrations)
  ),
}
_KINDS = {"prefix": "PrefixSpec", "lora": "LoraSpec", "none": None}
_SIZES = ("emb_dim", "mlp_dim", "num_heads", "num_encoder_layers")

Row = Mapping[str, str]


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
  record = typed_json.read(ProblemRecord, model, "results", "model")
  for row in rows():
    wanted = (row["tasks"], row["examples"], row["reads the Definition"])
    if is_of(row, record) and wanted == asked:
      return _figures(row)
  return {}


def is_of(row: Row, record: ProblemRecord) -> bool:
  """Whether a row is of such a model."""
  sizes = record.fields["backbone"].fields
  kind = None if record.adapters is None else record.adapters.kind
  return (
    _TRAINED[row["trained"]](record)
    and _KINDS[row["adapters"]] == kind
    and _sizes()[row["T5"]] == {name: sizes[name] for name in _SIZES}
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
