"""What a call of `Model.predict` takes, first and later, and what it leaves behind.

With the demo's model, or any other run of a hypermodel:

  python -m benchmarks.serving --model=runs/demo_lora/multitask --json=serving.json

One record is answered in each call, under an adapter of four examples. The file has
seconds of the first call, which reads the T5 and compiles; the median of all others;
and by how many MiB the process grew between the first call and the last.
"""

import argparse
import gc
import json
import pathlib
import resource
import statistics
import time
from collections.abc import Sequence

from benchmarks import measuring
from hyperjax import paths, serving
from hyperjax.tasks import records

CALLS = 200
RULE, EXAMPLES = 7, 4


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, metavar="RUN")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
  given = parser.parse_args(arguments)
  found = measure(serving.load(given.model))
  print(f"{measuring.machine()}; {given.model}, {CALLS} calls of one row")
  print(
    f"first {found['first_s']:.3f} s, median of the others "
    f"{1e3 * found['median_s']:.2f} ms, growth {found['growth_mib']:.1f} MiB"
  )
  if given.json:
    paths.replace(given.json, json.dumps(found, indent=1) + "\n")


def measure(model: serving.Model) -> dict[str, float]:
  """Seconds and MiB of `CALLS` calls."""
  pairs = [
    (row["inputs"], row["targets"]) for row in records.rule_rows(RULE, "train")
  ]
  adapter = model.adapt(pairs[:EXAMPLES])
  asked = [row["inputs"] for row in records.rule_rows(RULE, "validation")]
  taken, before = [], 0.0
  for call in range(CALLS):
    start = time.perf_counter()
    model.predict([asked[call % len(asked)]], adapter)
    taken.append(time.perf_counter() - start)
    before = before or _resident_mib()
  return {
    "first_s": taken[0],
    "median_s": statistics.median(taken[1:]),
    "growth_mib": _resident_mib() - before,
  }


def _resident_mib() -> float:
  """Memory that this process holds now."""
  gc.collect()
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
  main()
