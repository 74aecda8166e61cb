"""From a cold shell to an adapter, and to answers with it, in fresh processes.

With the demo's model, or any other that was trained on the records family; `adapt`
with its check of the examples, and without:

  python -m benchmarks.adapt_time --model=runs/demo_lora/multitask

Each command runs with nothing compiled before, then again with what that has
left in the compilation cache; seconds on the clock and of processor time, and the
parts of `adapt` from inside a process of its own.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring
from hyperjax.commands import compiled
from hyperjax.tasks import records

REPEATS = 3
RULE, EXAMPLES, INPUTS = 7, 4, 10
PARTS = """
import sys, time
begin = time.perf_counter()
def lap(name):
  global begin
  now = time.perf_counter()
  print(f"  {name:34}{now - begin:8.2f}", flush=True)
  begin = now
from hyperjax import serving
from hyperjax.commands import compiled
from hyperjax.serving import examples
compiled.keep()
lap("imports")
model = serving.load(sys.argv[1])
lap("what the run says of itself")
fitted = model.fit(examples.read(__import__("pathlib").Path(sys.argv[2])))
lap("examples to ids")
model.hypermodel.params
lap("restoring the hypermodel")
model.write([fitted])
lap("compiling and running it")
"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, metavar="RUN")
  model = parser.parse_args().model
  print(f"{measuring.machine()}; {REPEATS} turns, median (least to most)\n")
  print(f"{'seconds':30}{'clock':>28}{'processor':>28}")
  with tempfile.TemporaryDirectory() as folder:
    _measure(model, pathlib.Path(folder))


def _measure(model: str, folder: pathlib.Path) -> None:
  examples, inputs = _write_files(folder)
  adapt = ["adapt", "--model", model, "--examples", str(examples)]
  predict = ["predict", "--model", model, "--inputs", str(inputs)]
  predict += ["--adapter", str(folder / "adapter")]
  adapt += ["--out", str(folder / "adapter"), "--overwrite"]
  commands = {
    "adapt": adapt,
    "adapt --no-verdict": [*adapt, "--no-verdict"],
    "predict": [*predict, "--out", str(folder / "out.jsonl"), "--overwrite"],
  }
  for name, command in commands.items():
    taken: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for turn in range(REPEATS):
      for found in taken.values():
        program = [sys.executable, "-m", "hyperjax.main", *command]
        kept = f"compiled_{name.replace(' ', '_')}_{turn}"
        found.append(_seconds(program, folder / kept))
    for state, found in taken.items():
      clock, processor = zip(*found, strict=True)
      print(
        f"{name + ', ' + state + ' cache':30}{measuring.spread(clock, 2):>28}"
        f"{measuring.spread(processor, 2):>28}"
      )
  for state in ("cold", "warm"):
    print(f"\nparts of adapt, {state} cache")
    program = [sys.executable, "-c", PARTS, model, str(examples)]
    _seconds(program, folder / "compiled_parts")


def _write_files(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """A few examples of a rule, and records to rewrite by it."""
  examples, inputs = folder / "examples.jsonl", folder / "inputs.txt"
  rows = list(records.rule_rows(RULE, "train"))[:EXAMPLES]
  examples.write_text(
    "".join(
      json.dumps({"input": row["inputs"], "output": row["targets"]}) + "\n"
      for row in rows
    )
  )
  asked = list(records.rule_rows(RULE, "validation"))[:INPUTS]
  inputs.write_text("".join(f"{row['inputs']}\n" for row in asked))
  return examples, inputs


def _seconds(program: list[str], cache: pathlib.Path) -> tuple[float, float]:
  """On the clock and of processor time, of a process and its own."""
  is_shown = program[1] == "-c"
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  subprocess.run(
    program,
    check=True,
    env=os.environ | {compiled.SETTING: str(cache)},
    stdout=None if is_shown else subprocess.DEVNULL,
  )
  taken = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return taken, used


if __name__ == "__main__":
  main()
