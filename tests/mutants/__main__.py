"""`python -m tests.mutants --seed 1`: faults drawn, tried, and listed.

Each is tried by the tests that reach its line and, where these say nothing, by
all quick tests, those of `make test`. Survivors are printed with what they
changed. One that is the same program, or differs in what no one is promised,
belongs into `same.toml` with the reason.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

from tests import conftest
from tests.mutants import reach, sites

HERE = pathlib.Path(__file__).parent
# Exit status where too few are caught.
FEW, ENOUGH = 3, 0.95
# A test that a fault keeps from ending has noticed it.
HANGS = 300.0
TRIED_BY_ALL = 900.0
QUIET = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "--tb=line"]


@dataclasses.dataclass(frozen=True)
class Result:
  mutant: sites.Mutant
  by: str  # what caught it: a test, "hangs", or nothing
  seconds: float
  same: str = ""  # why it is no fault


def reviewed() -> dict[tuple[str, str, str], str]:
  """Why a change is none: by file, line before and line after."""
  entries = tomllib.loads((HERE / "same.toml").read_text())["same"]
  return {
    (one["path"], one["before"], one["after"]): one["why"] for one in entries
  }


def key(mutant: sites.Mutant) -> tuple[str, str, str]:
  """What `same.toml` knows a mutant by; its line's number may move."""
  changed = mutant.diff()
  before, after = (
    " ".join(line[1:].strip() for line in changed if line[0] == sign)
    for sign in "-+"
  )
  return mutant.path, before, after


def copy_to(folder: pathlib.Path) -> None:
  """What the tests need of the checkout, as git knows it."""
  command = ["git", "ls-files", "-z", "--cached", "--others"]
  listed = subprocess.run(
    [*command, "--exclude-standard"],
    cwd=sites.ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  for name in filter(None, listed.split("\0")):
    if not (sites.ROOT / name).exists():
      continue
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(sites.ROOT / name, folder / name, follow_symlinks=False)


def pytest(folder: pathlib.Path, arguments: list[str], limit: float) -> str:
  """The first test that fails in `folder`, "hangs", or nothing."""
  listed = folder / "arguments.txt"  # too many for a command line
  listed.write_text("\n".join(arguments))
  environment = os.environ | {"PYTHONPATH": str(folder)}
  environment["PYTHONDONTWRITEBYTECODE"] = "1"
  # The copies have no neighbours.
  environment["HYPERJAX_TEST_DATA"] = str(conftest.DATA)
  process = subprocess.Popen(
    [sys.executable, "-m", "pytest", *QUIET, f"@{listed}"],
    cwd=folder,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )
  try:
    output, _ = process.communicate(timeout=limit)
  except subprocess.TimeoutExpired:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return "hangs"
  if process.returncode == 0:
    return ""
  if "ERROR: " in output and "ERROR collecting" not in output:
    # A default that changed is in a test's name: all tests of the files, then.
    files = sorted({argument.split("::")[0] for argument in arguments})
    if files == sorted(arguments):
      return "nothing can be collected"
    return pytest(folder, files, limit)
  failed = [
    line
    for line in output.splitlines()
    if line.startswith(("FAILED", "ERROR", "E  ", "INTERNALERROR"))
  ]
  return (failed or output.splitlines()[-1:] or ["fails"])[0][:160]


class Trial:
  """Tries faults in copies of the checkout, one copy a worker."""

  def __init__(self, found: reach.Reach, folders: list[pathlib.Path]):
    self._found = found
    self._folders: queue.Queue[pathlib.Path] = queue.Queue()
    for folder in folders:
      self._folders.put(folder)

  def by_reach(self, mutant: sites.Mutant) -> Result:
    tests = self._found.tests_of(mutant)
    return self._tried(mutant, tests, HANGS) if tests else Result(mutant, "", 0)

  def by_all(self, mutant: sites.Mutant) -> Result:
    rest = ["-m", "not slow", "-n", "2", "--dist", "worksteal"]
    return self._tried(mutant, rest, TRIED_BY_ALL)

  def _tried(
    self, mutant: sites.Mutant, arguments: list[str], limit: float
  ) -> Result:
    folder, began = self._folders.get(), time.monotonic()
    file = folder / mutant.path
    right = file.read_text()
    try:
      file.write_text(mutant.source() or "")
      caught = pytest(folder, arguments, limit)
    finally:
      file.write_text(right)
      self._folders.put(folder)
    return Result(mutant, caught, time.monotonic() - began)


def run(options: argparse.Namespace) -> list[Result]:
  drawn = sites.draw(options.seed, options.count, options.of or sites.CORE)
  known = reviewed()
  results = [
    Result(mutant, "", 0, known[key(mutant)])
    for mutant in drawn
    if key(mutant) in known
  ]
  with tempfile.TemporaryDirectory() as temporary:
    kept = pathlib.Path(options.reach or temporary)
    kept.mkdir(parents=True, exist_ok=True)
    found = reach.measure(kept)
    folders = [pathlib.Path(temporary) / str(i) for i in range(options.jobs)]
    for folder in folders:
      copy_to(folder)
    trial = Trial(found, folders)
    asked = [mutant for mutant in drawn if key(mutant) not in known]
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
      for result in pool.map(trial.by_reach, asked):
        tell(result)
        (results if result.by else survivors).append(result)
    for result in survivors:
      if not options.reach_only:
        result = trial.by_all(result.mutant)
        tell(result)
      results.append(result)
  return results


def tell(result: Result) -> None:
  mutant = result.mutant
  caught = result.by or result.same or "NOT CAUGHT"
  print(
    f"{mutant.path}:{mutant.line} {mutant.operator}"
    f" ({result.seconds:.0f} s): {caught}",
    flush=True,
  )


def main() -> int:
  parser = argparse.ArgumentParser("python -m tests.mutants")
  parser.add_argument("--seed", type=int, required=True)
  parser.add_argument("--count", type=int, default=60)
  parser.add_argument("--jobs", type=int, default=2, help="tried at a time")
  parser.add_argument("--of", nargs="*", help="patterns of files of hyperjax/")
  parser.add_argument("--reach", help="folder that keeps what tests reach")
  parser.add_argument(
    "--reach_only", action="store_true", help="not by all tests"
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="OUT")
  options = parser.parse_args()
  results = run(options)
  faults = [result for result in results if not result.same]
  survivors = [result for result in faults if not result.by]
  for result in survivors:
    print(f"\n{result.mutant.path}:{result.mutant.line} survives")
    print("\n".join(result.mutant.diff()))
  caught = len(faults) - len(survivors)
  print(
    f"\nseed {options.seed}: {caught} of {len(faults)} faults caught,"
    f" {len(results) - len(faults)} of {len(results)} changes are no faults"
  )
  if options.json:
    rows = [
      {**dataclasses.asdict(one), "diff": one.mutant.diff()} for one in results
    ]
    options.json.write_text(json.dumps(rows, indent=1))
  return 0 if caught >= ENOUGH * len(faults) else FEW


if __name__ == "__main__":
  sys.exit(main())
