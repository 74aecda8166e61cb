"""The smallest slice of TPUs for every documented run: python -m benchmarks.smallest.

Every file of gin/runs, and every run of docs/paper.md with its own commands, at its own
batch and lengths. By arithmetic the smallest slice of TPU v5e is found on which it has
room, weights split over all chips; no compiler is asked, and nothing runs.
`--out=FOLDER` plans each by `hyperjax plan` too, for that slice or the next that fits:
what is there is not planned again. `--write` puts the table into docs/scale.md.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import scale_page
from hyperjax.commands.plan import DOES_NOT_FIT

GIB = 2**30
ROOT = pathlib.Path(__file__).parent.parent
PAPER = ROOT / "docs" / "paper.md"
_CHIP = "v5e"
SLICES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_MOST = 256
_ROOM = 0.8  # of a chip's memory, that arithmetic may find taken
# Smaller T5s than public ones, which run files name themselves.
_OWN_SIZES = ("demo_", "study_")


@dataclasses.dataclass(frozen=True)
class Run:
  """One that is documented.

  Attributes:
    name: of its file, or of a row and what is done.
    options: of `hyperjax plan`, but for devices.
    size: of its T5, where its name does not say.
    adapters: likewise.
  """

  name: str
  options: Sequence[str]
  size: str = ""
  adapters: str = ""

  @property
  def words(self) -> str:
    return ", ".join(x for x in (self.name, self.size, self.adapters) if x)

  @property
  def file(self) -> str:
    return re.sub(r"\W+", "-", self.words)


@dataclasses.dataclass(frozen=True)
class Room:
  """What a run takes of a slice by arithmetic.

  Attributes:
    extents: of the slice.
    axes: of the mesh.
    state: bytes of each chip that are there as the fullest program begins.
    takes: with what it computes.
  """

  extents: str
  axes: dict[str, int]
  state: int
  takes: int


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", type=pathlib.Path)
  parser.add_argument("--only", default="", help="runs whose name holds this")
  parser.add_argument("--write", action="store_true")
  given = parser.parse_args()
  flag = f"--xla_force_host_platform_device_count={_MOST}"
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
  os.environ["JAX_PLATFORMS"] = "cpu"
  found, failed = [], []
  for run in documented():
    if given.only in run.words:
      try:
        room = smallest(run)
      except ValueError as error:
        failed.append(f"{run.words}: {error}")
        continue
      found.append((run, room))
      print(_line(run, room, None), file=sys.stderr, flush=True)
  planned: list[dict[str, Any] | None] = [None] * len(found)
  if given.out is not None:
    given.out.mkdir(parents=True, exist_ok=True)
    planned = [_planned(run, room, given.out) for run, room in found]
  table = "\n".join(_lines(found, planned))
  print(table)
  if given.write:
    scale_page.write("smallest", table)
  if failed:
    raise SystemExit("not planned:\n" + "\n".join(failed))


def documented() -> list[Run]:
  """Every run file with the sizes and adapters that the docs train, and every row."""
  return [*_files(), *_rows()]


def _files() -> Iterator[Run]:
  for path in sorted((ROOT / "gin" / "runs").glob("*.gin")):
    name = path.stem
    if name.endswith("_cache"):
      continue  # stores tokens, and computes nothing
    is_t5_alone = "pretrain" in name and "hyperpretrain" not in name
    adapters = "" if is_t5_alone else "lora"
    files = [f"runs/{name}.gin"]
    if adapters:
      files.insert(0, f"adapters/{adapters}.gin")
    if name.startswith(_OWN_SIZES):
      if name == "demo_eval":
        files.append("models/records.gin")
        lengths = "{'demonstrations': 56, 'inputs': 8, 'targets': 8}"
        given = f"--gin.TASK_FEATURE_LENGTHS={lengths}"  # as its run would say
        yield Run(name, [*_given(files), given], "", adapters)
        continue
      yield Run(name, _given(files), "", adapters)
      continue
    for size in ("base", "large", "xl"):
      of_size = [*files, f"models/t5_1_1_{size}.gin"]
      yield Run(name, _given(of_size), size, adapters)


def _given(files: Iterable[str]) -> list[str]:
  return [f"--gin_file={file}" for file in files]


def _rows() -> Iterator[Run]:
  """Of docs/paper.md: the options of a row's own commands, with its T5's sizes."""
  text = re.sub(r"\\\n\s*", " ", PAPER.read_text())
  rows = re.findall(r"^\| (\w+) \| (large|xl) \| [^|]+ \| (\w+) \|", text, re.M)
  lines = re.findall(r"^    hyperjax (.*)$", text, re.MULTILINE)
  for name, size, adapters in rows:
    for line in lines:
      line = string.Template(line).substitute(T5=size, KIND=adapters)
      command, *options = shlex.split(line)
      own = dict(option.split("=", 1) for option in options)
      place = own.get("--gin.MODEL_DIR") or own.get("--gin.CHECKPOINT_PATH")
      if place == f"/runs/{name}":
        kept = [x for x in options if "_PATH=" not in x and "_DIR=" not in x]
        kept += [*_before(command, name, adapters, lines)]
        kept.append(f"--gin_file=models/t5_1_1_{size}.gin")
        yield Run(f"{name}, {command}", kept)


def _before(
  command: str, name: str, adapters: str, lines: Sequence[str]
) -> Iterator[str]:
  """What an evaluation takes of a run that is not there: its adapters and stage."""
  if command != "eval":
    return
  if adapters != "none":
    yield f"--gin_file=adapters/{adapters}.gin"
  for line in lines:
    if (
      line.startswith("train")
      and f"/runs/{name}" in line.split("MODEL_DIR")[-1]
    ):
      stages = re.findall(r"--gin_file=stages/\w+\.gin", line)
      yield from (x for x in stages if "shared_adapter" not in x)


def smallest(run: Run) -> Room | None:
  """The slice that arithmetic finds; None where it is larger than all."""
  import gin
  import jax

  from hyperjax import main as command

  gin.clear_config(clear_constants=True)
  words = ["plan", *run.options, f"--devices={_MOST}"]
  planned: Any = command.build_parsed(*command.parse(words))[0]
  for extents in SLICES:
    rows, columns = map(int, extents.split("x"))
    devices = jax.devices("cpu")[: rows * columns]
    room = _room(planned.run, extents, devices)
    if room is not None:
      return room
  return None


def _room(run: Any, extents: str, devices: Sequence[Any]) -> Room | None:
  """What it takes, on the first mesh that it can have and has room on."""
  from hyperjax.memory import sheets
  from hyperjax.planning import of_run, settings

  for axes in settings.meshes(len(devices)):
    if math.prod(axes.values()) < len(devices):
      continue  # weights are split over all
    mesh = dataclasses.replace(run.mesh, axes=axes)
    try:
      jobs = of_run.programs(dataclasses.replace(run, mesh=mesh), devices)
    except ValueError:
      if len(devices) == 1:
        raise  # one divides everything
      continue
    state, takes = max((_taken(job) for job in jobs), key=lambda x: x[1])
    if takes <= _ROOM * sheets.SHEETS[_CHIP].memory:
      return Room(extents, axes, state, takes)
  return None


def _taken(job: Any) -> tuple[int, int]:
  from hyperjax import sharding
  from hyperjax.planning import account

  state = sum(account.held(job).values()) + sharding.device_bytes(job.beside)
  return state, state + account.gradients(job) + account.activations(job)


def _planned(
  run: Run, room: Room | None, out: pathlib.Path
) -> dict[str, Any] | None:
  """The plan for the slice, or for the first larger one that fits."""
  if room is None:
    return None
  path = out / f"{run.file}.json"
  if not path.exists():
    for extents in SLICES[SLICES.index(room.extents) :]:
      rows, columns = map(int, extents.split("x"))
      axes = dict(room.axes)
      axes["fsdp"] = rows * columns // axes.get("tensor", 1)
      command = [sys.executable, "-m", "hyperjax.main", "plan", *run.options]
      given = [f"--topology={_CHIP}:{extents}", f"--gin.MESH={axes}"]
      flags = {"XLA_FLAGS": "", "JAX_PLATFORMS": ""}
      done = subprocess.run(
        [*command, *given, f"--json={path}"],
        env={**os.environ, **flags},
        check=False,
      )
      if done.returncode == 0:
        break
      if done.returncode != DOES_NOT_FIT:
        raise SystemExit(f"{run.words}: exit status {done.returncode}")
  return json.loads(path.read_text())


def _lines(
  found: Sequence[tuple[Run, Room | None]],
  planned: Sequence[dict[str, Any] | None],
) -> Iterable[str]:
  yield (
    "| run, T5, adapters | devices | mesh | state, needed in all "
    "(GiB a device, by arithmetic) | needed in all (compiled) | devices (compiled) |"
  )
  yield "|---" * 6 + "|"
  for (run, room), made in zip(found, planned, strict=True):
    yield _line(run, room, made)


def _line(run: Run, room: Room | None, made: dict[str, Any] | None) -> str:
  if room is None:
    return f"| {run.words} | more than {_CHIP}:{SLICES[-1]} | - | - | - | - |"
  takes, devices = "-", "-"
  if made is not None:
    totals = [x["bytes_per_device"]["total"] for x in made["programs"]]
    if all(totals):
      takes = f"{max(totals) / GIB:.2f}"
    devices = made["topology"] if made["fits"] else "none fits"
  axes = json.dumps(room.axes)
  cells = [
    run.words,
    f"{_CHIP}:{room.extents}",
    f"`{axes}`",
    f"{room.state / GIB:.2f}, {room.takes / GIB:.2f}",
    takes,
    devices,
  ]
  return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  main()
