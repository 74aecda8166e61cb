"""No file and no function outgrows what is read in one sitting."""

import ast

import pytest

from tests import conftest

FOLDERS = ("hyperjax", "tasks", "benchmarks")
FILES = sorted(
  path for folder in FOLDERS for path in (conftest.ROOT / folder).rglob("*.py")
)
MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_MODULES = 350, 60, 12


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_looked_at(folder):
  assert any(conftest.ROOT / folder in path.parents for path in FILES)


def test_no_file_is_too_long():
  lengths = {path: len(path.read_text().splitlines()) for path in FILES}
  assert {path: n for path, n in lengths.items() if n > MOST_LINES} == {}


def test_no_function_is_too_long():
  too_long = [
    f"{path}:{node.lineno} {node.name}"
    for path in FILES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_FUNCTION
  ]
  assert too_long == []


def test_few_modules_stand_beside_the_rooms():
  found = {path.stem for path in (conftest.ROOT / "hyperjax").glob("*.py")}
  assert len(found - {"__init__", "__main__"}) <= MOST_MODULES
