"""What takes too long for every change: `make nightly`, or some of its parts.

    python -m tests.nightly [--seed=N] [--mutants=N] [--kills=N] [PART ...]

Runs the parts one after another, the output of each in runs/nightly/PART.log, and
writes docs/nightly.md after each. Exits with 1 if one failed.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "nightly.md"
LOGS = ROOT / "runs" / "nightly"
HEAD = """# The last night

What `make nightly` last came to, written by itself; a part that was run alone has its
own date and commit. A commit with a `+` had changes that were not committed.

| part | what it does | result | its last line | minutes | date | commit |
|---|---|---|---|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Part:
  what: str
  command: Sequence[str]
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parts(seed: int, mutants: int, kills: int) -> dict[str, Part]:
  """All parts by their names."""
  pytest = (sys.executable, "-m", "pytest", "-q")
  benchmark = ["make", "benchmarks-all"]
  if data_dir := os.environ.get("HYPERJAX_TEST_DATA"):
    benchmark.append(f"DATA_DIR={data_dir}")
  return {
    "pythons": Part(
      "the quick tests in every Python, lowest and highest versions",
      (sys.executable, "-m", "nox", "--session", "tests"),
      {"CI": "true"},  # where a Python lacks, nox then fails
    ),
    "properties": Part(
      "searches new examples for the properties",
      (*pytest, "-n", "2", "-m", "hypothesis"),
      {"HYPOTHESIS_PROFILE": "search"},
    ),
    "mutants": Part(
      f"{mutants} mutants of the core, drawn with seed {seed}",
      ("make", "mutants", f"SEED={seed}", f"N={mutants}"),
    ),
    "kills": Part(
      f"runs killed {kills} times write what undisturbed ones write",
      (
        *(*pytest, "tests/runs_test.py", "tests/distributed_test.py"),
        *("tests/buckets_test.py", "-k", "killed or kills"),
      ),
      {"HYPERJAX_TEST_KILLS": str(kills)},
    ),
    "bytes": Part(
      "the demo by bytes, whole", ("make", "demo", "TOKENIZER=bytes")
    ),
    "sizes": Part("measures at the sizes of docs/benchmarks.md", benchmark),
  }


def _commit() -> str:
  def git(*command: str) -> str:
    return subprocess.check_output(("git", *command), cwd=ROOT, text=True)

  changed = git("status", "--porcelain", "--", ".", ":!docs/nightly.md")
  return git("rev-parse", "--short", "HEAD").strip() + "+" * bool(changed)


def _last_line(log: pathlib.Path) -> str:
  lines = log.read_text(errors="replace").splitlines()
  last = next((line for line in reversed(lines) if line.strip(" =")), "")
  return last.strip(" =").replace("|", "/")[:100]


def _rows(page: pathlib.Path) -> dict[str, str]:
  """The page's rows by their parts; none where there is no page."""
  lines = page.read_text().splitlines() if page.exists() else []
  table = [line for line in lines if line.startswith("| ")][1:]
  return {line.split("|")[1].strip(): line for line in table}


def run(
  chosen: Mapping[str, Part], page: pathlib.Path, logs: pathlib.Path
) -> list[str]:
  """Runs parts and writes their rows into `page`; the names that failed."""
  logs.mkdir(parents=True, exist_ok=True)
  commit, failed = _commit(), []
  for name, part in chosen.items():
    print(f"== {name}: {part.what}", flush=True)
    log, began = logs / f"{name}.log", time.monotonic()
    with log.open("w") as file:
      code = subprocess.run(
        part.command,
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdout=file,
        stderr=subprocess.STDOUT,
      ).returncode
    minutes = (time.monotonic() - began) / 60
    result = "passed" if code == 0 else f"**failed ({code})**"
    cells = (name, part.what, result, _last_line(log), f"{minutes:.1f}")
    today = datetime.date.today().isoformat()
    rows = _rows(page) | {name: f"| {' | '.join((*cells, today, commit))} |"}
    page.write_text(HEAD + "".join(f"{row}\n" for row in rows.values()))
    print(f"   {result}, {minutes:.1f} min, {log}", flush=True)
    if code:
      failed.append(name)
  return failed


def main() -> int:
  today = datetime.date.today().toordinal()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seed", type=int, default=today, help="of mutants")
  parser.add_argument("--mutants", type=int, default=100, help="their number")
  parser.add_argument("--kills", type=int, default=200, help="their number")
  parser.add_argument("part", nargs="*", help="all, if none is named")
  given = parser.parse_args()
  every = parts(given.seed, given.mutants, given.kills)
  if unknown := set(given.part) - set(every):
    parser.error(f"no part {sorted(unknown)}; there are {', '.join(every)}")
  chosen = {name: every[name] for name in given.part or every}
  failed = run(chosen, PAGE, LOGS)
  print(f"failed: {', '.join(failed)}" if failed else "all parts passed")
  return bool(failed)


if __name__ == "__main__":
  sys.exit(main())
