"""Every documented run at its own size: python -m benchmarks.documented --data_dir=DIR.

Each run file that trains takes one step at its own batch and lengths, and each that
scores one task, with the tiny T5 of models/t5_1_1_tiny.gin, whatever devices there are.
Each is a process of its own, whose greatest memory is noted. `--out=FOLDER` keeps the
runs and what was measured: what is there is not run again. `--write` puts the table into
docs/scale.md, between its marks.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import measuring, scale_page

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Run:
  """One run file: what it begins with, and what it is given besides."""

  file: str
  begins_with: str | None = None
  options: Sequence[str] = ()

  @property
  def trains(self) -> bool:
    return not self.file.startswith("eval_")

  def command(self, out: pathlib.Path, data_dir: pathlib.Path) -> list[str]:
    """Of `hyperjax`, for one step or one task."""
    files = [f"--gin_file=runs/{self.file}.gin"]
    given = [f"--gin.DATA_DIR={data_dir}", f"--gin.CACHE_DIR={out / 'tokens'}"]
    if self.begins_with:
      begins = out / self.begins_with
      name = "INITIAL_CHECKPOINT_PATH" if self.trains else "CHECKPOINT_PATH"
      given.append(f"--gin.{name}={begins}")
    else:
      files.append("--gin_file=models/t5_1_1_tiny.gin")
    if not self.trains:
      one = "--gin.few_shot.FewShotEvaluation.max_tasks=1"
      return ["eval", *files, *given, one, *self.options]
    if self.begins_with:
      files.insert(0, "--gin_file=adapters/lora.gin")
    steps = ["--gin.TRAIN_STEPS=1", f"--gin.MODEL_DIR={out / self.file}"]
    return ["train", *files, *given, *steps, *self.options]


_METAICL = ("--gin.METAICL_SETTING=small_hr_to_lr",)
# A part of the data set is enough; what its lists name besides is left out.
_SNI = ("--gin.superni.SuperNaturalInstructions.skip_missing=True",)
# Adapters side by side, as many rows of each as the run file has, for as many tasks as there are.
_SNI_TASKS = (*_SNI, "--gin.NUM_TASKS=63", "--gin.BATCH_SIZE=126")
_P3_TASKS = ("--gin.NUM_TASKS=60", "--gin.BATCH_SIZE=240")
_NO_EVALUATION = ("--gin.EVAL_PERIOD=None",)
RUNS = (
  Run("pretrain_c4", None, _NO_EVALUATION),
  Run("hyperpretrain_c4", "pretrain_c4", _NO_EVALUATION),
  Run("mtf_sni", "hyperpretrain_c4", (*_SNI, *_NO_EVALUATION)),
  Run("mtf_p3", "hyperpretrain_c4", _NO_EVALUATION),
  Run("mtf_metaicl", "hyperpretrain_c4", (*_METAICL, *_NO_EVALUATION)),
  Run("eval_sni", "mtf_sni", _SNI),
  Run("eval_p3", "mtf_p3"),
  Run("eval_metaicl", "mtf_metaicl", _METAICL),
  Run("peft_sni", "mtf_sni", (*_SNI_TASKS, *_NO_EVALUATION)),
  Run("peft_p3", "mtf_p3", (*_P3_TASKS, *_NO_EVALUATION)),
  Run("peft_metaicl", "mtf_metaicl", (*_METAICL, *_NO_EVALUATION)),
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", type=pathlib.Path, required=True)
  parser.add_argument("--out", type=pathlib.Path, default="runs/documented")
  parser.add_argument(
    "--only", default="", help="run files whose name holds this"
  )
  parser.add_argument("--write", action="store_true")
  given = parser.parse_args()
  out, data_dir = given.out.absolute(), given.data_dir.absolute()
  out.mkdir(parents=True, exist_ok=True)
  failed = [
    run.file
    for run in RUNS
    if given.only in run.file and not _measure(run, out, data_dir)
  ]
  table = "\n".join(_lines(out))
  print(table)
  if given.write:
    scale_page.write("documented", table)
  if failed:
    raise SystemExit(f"failed: {', '.join(failed)}; see their logs in {out}")


def _measure(run: Run, out: pathlib.Path, data_dir: pathlib.Path) -> bool:
  """Runs it, unless its numbers are there; whether it ended well."""
  numbers = out / f"{run.file}.json"
  if numbers.exists():
    return True
  command = [sys.executable, "-m", "hyperjax.main", *run.command(out, data_dir)]
  began = time.perf_counter()
  with (out / f"{run.file}.log").open("w") as log:
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    # Of this child alone: what getrusage says of children is their greatest.
    _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    return False
  found = {
    "peak_bytes": usage.ru_maxrss * 1024,
    "cpu_s": usage.ru_utime + usage.ru_stime,
    "wall_s": time.perf_counter() - began,
    "machine": measuring.machine(),
  }
  numbers.write_text(json.dumps(found, indent=1) + "\n")
  return True


def _lines(out: pathlib.Path) -> Iterable[str]:
  yield "| run file | what | memory at most (GiB) | CPU (s) | wall time (s) |"
  yield "|---|---|---|---|---|"
  for run in RUNS:
    path = out / f"{run.file}.json"
    if path.exists():
      yield _line(run, json.loads(path.read_text()))


def _line(run: Run, found: dict[str, Any]) -> str:
  cells = (
    f"runs/{run.file}.gin",
    "one step" if run.trains else "one task",
    f"{found['peak_bytes'] / GIB:.1f}",
    f"{found['cpu_s']:.0f}",
    f"{found['wall_s']:.0f}",
  )
  return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  main()
