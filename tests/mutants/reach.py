"""Which tests reach a line: measured once, by coverage with a context a test."""

import ast
import collections
import dataclasses
import os
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import coverage

from tests.mutants import sites

# Tests that together take longer are left to the run of all of them.
SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Reach:
  contexts: dict[str, dict[int, frozenset[str]]]  # file, line: tests
  seconds: dict[str, float]  # test: of its run, fixtures with it

  def tests_of(self, mutant: sites.Mutant) -> list[str]:
    """Tests to try first: the quickest of those that run the mutant's line.

    A line that runs when its module is imported, such as a field's default, is
    tried by the tests of the module.
    """
    lines = self.contexts.get(mutant.path, {})
    tests = set(lines.get(mutant.line, ()))
    for line in _statement(mutant):
      tests |= lines.get(line, frozenset())
    if not tests:
      tests = set().union(*lines.values()) if lines else set()
    own = pathlib.Path(mutant.path).stem + "_test.py"
    ordered = sorted(
      tests,
      key=lambda test: (own not in test, self.seconds.get(test, SECONDS)),
    )
    chosen, total = [], 0.0
    for test in ordered:
      total += self.seconds.get(test, SECONDS)
      if chosen and total > SECONDS:
        break
      chosen.append(test)
    return chosen


def _statement(mutant: sites.Mutant) -> range:
  """The lines of the smallest statement around the mutant's line."""
  tree = ast.parse((sites.ROOT / mutant.path).read_text())
  around = [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.stmt)
    and node.lineno <= mutant.line <= (node.end_lineno or node.lineno)
    and not hasattr(node, "body")
  ]
  if not around:
    return range(0)
  least = min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)
  return range(least.lineno, (least.end_lineno or least.lineno) + 1)


def measure(folder: pathlib.Path) -> Reach:
  """Runs all quick tests once, and keeps in `folder` what each of them reached."""
  data, times = folder / "coverage", folder / "times.xml"
  if not times.exists():
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2"]
    command += ["--dist", "worksteal", "-m", "not slow", f"--junitxml={times}"]
    command += ["-o", "junit_duration_report=total"]
    command += ["--cov=hyperjax", "--cov-context=test", "--cov-report="]
    environment = os.environ | {"COVERAGE_FILE": str(data)}
    subprocess.run(command, cwd=sites.ROOT, env=environment, check=True)
  return Reach(_contexts(data), _seconds(times))


def _contexts(file: pathlib.Path) -> dict[str, dict[int, frozenset[str]]]:
  data = coverage.CoverageData(str(file))
  data.read()
  found = {}
  for path in data.measured_files():
    found[path] = {
      line: frozenset(context.split("|")[0] for context in contexts if context)
      for line, contexts in data.contexts_by_lineno(path).items()
    }
  return found


def _seconds(file: pathlib.Path) -> dict[str, float]:
  seconds: dict[str, float] = collections.defaultdict(float)
  for case in ElementTree.parse(file).iter("testcase"):
    if not case.get("classname"):
      continue  # a module that was skipped
    module, *classes = _split(case.get("classname", ""))
    name = "::".join([module, *classes, case.get("name", "")])
    seconds[name] += float(case.get("time", 0))
  return dict(seconds)


def _split(name: str) -> list[str]:
  """`tests.models.t5_test.TestX` as the file and the classes in it."""
  parts = name.split(".")
  last = next(i for i, part in enumerate(parts) if part.endswith("_test"))
  return ["/".join(parts[: last + 1]) + ".py", *parts[last + 1 :]]
