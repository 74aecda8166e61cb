"""The table of plans in docs/scale.md: python -m benchmarks.plans --out=FOLDER.

Each row is a `hyperjax plan` in a process of its own, whose JSON stays in FOLDER: what is
there is not planned again. `--write` puts the table into docs/scale.md, between its marks.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks import scale_page
from hyperjax.commands.plan import DOES_NOT_FIT

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Row:
  """One plan of runs/mtf_sni.gin: a T5, adapters, devices and how they share."""

  size: str
  adapters: str
  topology: str
  axes: str = "{}"
  microbatches: int = 1

  @property
  def name(self) -> str:
    return "-".join(
      (
        self.size,
        self.adapters,
        self.topology.replace(":", "_"),
        "".join(letter for letter in self.axes if letter.isalnum()),
        str(self.microbatches),
      )
    )

  @property
  def arguments(self) -> list[str]:
    """Of `hyperjax plan`."""
    return [
      f"--gin_file=adapters/{self.adapters}.gin",
      "--gin_file=runs/mtf_sni.gin",
      f"--gin_file=models/t5_1_1_{self.size}.gin",
      f"--gin.MESH={self.axes}",
      f"--gin.NUM_MICROBATCHES={self.microbatches}",
      f"--topology={self.topology}",
    ]


_SETTINGS = (
  ("base", "v5e:4x4", "{}"),
  ("large", "v5e:8x8", "{}"),
  ("large", "v5e:8x8", '{"fsdp": 64}'),
  ("xl", "v5p:4x4x4", '{"fsdp": 64}'),
  ("xxl", "v5p:4x4x8", '{"fsdp": 128}'),
)
ROWS = tuple(
  Row(size, adapters, topology, axes)
  for size, topology, axes in _SETTINGS
  for adapters in ("lora", "prefix")
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--only", default="", help="rows whose name holds this")
  parser.add_argument("--write", action="store_true")
  given = parser.parse_args()
  given.out.mkdir(parents=True, exist_ok=True)
  for row in ROWS:
    if given.only in row.name:
      _plan(row, given.out / f"{row.name}.json")
  table = "\n".join(_lines(given.out))
  print(table)
  if given.write:
    scale_page.write("plans", table)


def _plan(row: Row, out: pathlib.Path) -> None:
  if out.exists():
    return
  command = [sys.executable, "-m", "hyperjax.main", "plan", *row.arguments]
  done = subprocess.run([*command, f"--json={out}"], check=False)
  if done.returncode not in (0, DOES_NOT_FIT):
    raise SystemExit(f"{row.name}: exit status {done.returncode}")


def _lines(folder: pathlib.Path) -> Iterable[str]:
  yield (
    "| T5, adapters | devices | mesh | trained, frozen (million) | state, "
    "needed in all, there is (GiB a device) | TFLOP a device | GB sent: "
    "needed, compiled | seconds a step, at least | device-hours, at least | "
    "fits | compiled in |"
  )
  yield "|---" * 11 + "|"
  for row in ROWS:
    path = folder / f"{row.name}.json"
    if path.exists():
      yield _line(row, json.loads(path.read_text()))


def _line(row: Row, found: dict[str, Any]) -> str:
  parts = found["bytes_per_device"]
  kinds = ("weights_trained", "weights_frozen", "moments")
  state = sum(parts[kind] for kind in kinds)
  sent = found["collective_bytes"]
  step, hours = found["estimated_step_s"], found["device_hours"]
  cells = [
    f"{row.size}, {row.adapters}",
    row.topology,
    f"`{row.axes}`",
    f"{found['trained'] / 1e6:,.0f}, {found['frozen'] / 1e6:,.0f}",
    f"{state / GIB:.2f}, {parts['total'] / GIB:.2f}, "
    f"{parts['available'] / GIB:.2f}",
    f"{found['flops_per_device'] / 1e12:.1f}",
    f"{_gigabytes(sent['needed'])}, {_gigabytes(sent['compiled'])}",
    "-" if step is None else f"{step:.2f}, by {found['bound']}",
    "-" if hours is None else f"{hours:,.0f}",
    "yes" if found["fits"] else "no",
    f"{found['compile_s']:.0f} s",
  ]
  return f"| {' | '.join(cells)} |"


def _gigabytes(found: dict[str, int] | None) -> str:
  return "-" if found is None else f"{sum(found.values()) / 1e9:.1f}"


if __name__ == "__main__":
  main()
