"""The page of the last night says what each part came to."""

import sys

from tests import nightly


def _part(code):
  return nightly.Part("tries", (sys.executable, "-c", code))


def test_the_page_has_each_parts_last_result(tmp_path):
  page = tmp_path / "nightly.md"
  first = {
    "good": _part("print('3 passed'); print()"),
    "bad": _part("print('1 | 2 failed'); raise SystemExit(3)"),
  }
  assert nightly.run(first, page, tmp_path / "logs") == ["bad"]
  assert (tmp_path / "logs" / "good.log").read_text() == "3 passed\n\n"
  table = page.read_text().split("|---|\n")[1].splitlines()
  good, bad = ([cell.strip() for cell in row.split("|")] for row in table)
  assert good[1:5] == ["good", "tries", "passed", "3 passed"]
  assert bad[1:5] == ["bad", "tries", "**failed (3)**", "1 / 2 failed"]
  # A part that is run again by itself leaves the others' rows.
  again = {"bad": _part("print('2 passed')")}
  assert nightly.run(again, page, tmp_path / "logs") == []
  later = page.read_text().split("|---|\n")[1].splitlines()
  assert later[0] == table[0] and "| passed | 2 passed |" in later[1]
  assert len(later) == 2
