"""The commands that the README, pages and run files show are ones that work."""

import re
import shlex

import pytest

from hyperjax import main
from tests import conftest, t5_outline

PAGES = (
  "exchange",
  "own_tasks",
  "reading",
  "running",
  "scoring",
  "training",
  "using_adapters",
)

pytestmark = pytest.mark.usefixtures("no_configuration")


def _commands():
  """Every `hyperjax ...` in an indented block, continuation lines joined."""
  documents = [conftest.ROOT / "README.md"]
  documents += [conftest.ROOT / "docs" / f"{name}.md" for name in PAGES]
  documents += sorted((conftest.ROOT / "gin" / "runs").rglob("*.gin"))
  for path in documents:
    text = re.sub(r"^#", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"^ {3,}(hyperjax .*)$", text, re.MULTILINE):
      yield path.relative_to(conftest.ROOT), line


# Those with files of docs/own_tasks.md are run by its own test.
COMMANDS = [found for found in _commands() if "=shop_" not in found[1]]


def test_each_run_file_begins_with_its_command():
  folder = conftest.ROOT / "gin"
  for path in (folder / "runs").rglob("*.gin"):
    own = path.relative_to(conftest.ROOT)
    commands = [line for found, line in COMMANDS if found == own]
    assert commands, f"{own} shows no command"
    assert f"--gin_file={path.relative_to(folder)}" in commands[0]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_what_a_front_page_links_to_is_there(name):
  """The links of docs/ are the site's to check (`make docs`)."""
  text = (conftest.ROOT / name).read_text()
  links = re.findall(r"\]\(([^)\s]+)\)", text)
  own = [link for link in links if not link.startswith("http")]
  assert len(own) > 3
  missing = [x for x in own if not (conftest.ROOT / x.split("#")[0]).is_file()]
  assert missing == []


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  """Stands for every T5 and run whose sizes a command's run would read."""
  return t5_outline.write(tmp_path_factory.mktemp("t5") / "small", "small")


@pytest.mark.parametrize(
  "line", [line for _, line in COMMANDS], ids=lambda line: line[:60]
)
def test_a_command_that_is_shown_builds(line, t5):
  beginning = re.compile(
    r"(?<=--gin\.)(INITIAL_CHECKPOINT_PATH|CHECKPOINT_PATH)=\S+"
  )
  line = beginning.sub(rf"\1={t5}", line)
  known, rest = main.parse(shlex.split(line)[1:])
  if not hasattr(known, "gin_file"):
    assert not rest  # its options are all it takes
    return
  run, _ = main.build_parsed(known, rest)
  assert run
