"""Adapters trained further: what the page says of runs made by hand."""

import pytest

from tests.report import example

WRITTEN = {"x/a": [0.5, 0.1, 0.1], "b": [0.4, 0.2, 0.1], "c": [0.3, 0.2, 0.1]}
RANDOM = {"x/a": [2, 0.6, 0.2], "b": [2, 0.9, 0.3], "c": [2, 0.5, 0.2]}
LORA, PREFIX = {"rank": 8}, {"length": 4}
TITLE = "held_out, LoRA of rank 8 on plants"


def _write(folder, curves, initial, adapters=LORA, rate=0.5, **options):
  lines = example.side_by_side(curves, rate)
  problem = "AdapterFineTuning"
  example.write_run(
    folder, lines, str(initial), problem, adapters=adapters, **options
  )
  return folder


@pytest.fixture
def initial(tmp_path):
  """A hypermodel, a T5 and a shared adapter to begin with."""
  example.write_run(tmp_path / "hypermodel")
  example.write_run(tmp_path / "t5", problem="LanguageModel")
  example.write_run(tmp_path / "shared", problem="AdapterFineTuning")
  return tmp_path


@pytest.fixture
def page(initial):
  written = _write(initial / "written", WRITTEN, initial / "hypermodel")
  random = _write(initial / "random", RANDOM, initial / "t5")
  return example.make_page(initial, random, written)


def test_steps_to_a_loss_are_those_until_half_of_the_tasks_reach_it(page):
  head, *rows = page.tables[
    f"{TITLE}: steps until half of the tasks reach a loss"
  ]
  assert head[2:] == [
    "Steps to loss 0.3",
    "Steps to loss 0.2",
    "Steps to loss 0.1",
  ]
  assert rows == [
    [
      "random",
      "random values",
      "20 [20, 20], 3 of 3",
      "20 [20, over 20], 2 of 3",
      "over 20 [over 20, over 20], 0 of 3",
    ],
    [
      "written",
      "what a hypermodel writes",
      "10 [0, 10], 3 of 3",
      "10 [10, 10], 3 of 3",
      "20 [10, 20], 3 of 3",
    ],
  ]
  assert (
    "the lowest that are reached by every task of every run: 0.3; by half of the "
    "tasks of every run: 0.2; by half of the tasks of at least one run: 0.1"
  ) in page.text


def test_loss_and_score_are_shown_at_the_first_and_the_last_look(page):
  _, *rows = page.tables[f"{TITLE}: at the first and the last look"]
  # Of three numbers all resamples that are one of them alone are 1 of 27 each.
  assert rows[1] == [
    "written",
    "what a hypermodel writes",
    "0.5",
    "0 to 20 by 10",
    "0.4000 [0.3000, 0.5000]",
    "0.1000 [0.1000, 0.1000]",
    "50.0 [50.0, 50.0]",
    "50.0 [50.0, 50.0]",
  ]


def test_a_beginning_is_sooner_by_the_steps_it_saves_over_the_same_tasks(page):
  """10, 20 at least, 10: task b never gets there from random values."""
  assert (
    "Beginning with what a hypermodel writes reaches loss 0.2 in fewer steps than "
    "random values: written against random: steps saved are at least +13.3 "
    "[+10.0, +20.0] on average over the same tasks; fewer in 3 of 3 tasks, as "
    "many in 0, more in 0."
  ) in page.text
  rows = page.tables[f"{TITLE}: steps that a beginning saves"]
  assert rows[1][2:] == [
    "✓ +13.3 [+10.0, +20.0]; 3 fewer, 0 =, 0 more",
    "✓ +13.3 [+10.0, +20.0]; 3 fewer, 0 =, 0 more",
    "✓ +13.3 [+10.0, +20.0]; 3 fewer, 0 =, 0 more",
  ]


def test_how_much_lower_a_loss_is_is_told_task_by_task(page):
  """1.5, 1.6 and 1.7 at first, so the mean of three lies within these."""
  assert page.tables[f"{TITLE}: how much lower the loss is"] == [
    ["Runs", "At the first look", "At the last look"],
    [
      "written than random",
      "1.6000 [1.5000, 1.7000]",
      "0.1333 [0.1000, 0.2000]",
    ],
  ]


def test_every_task_is_listed_with_its_lowest_loss(initial):
  curves = {"a": [0.5, 0.1, 0.3], "b": [0.5, 0.4, 0.4]}
  run = _write(initial / "written", curves, initial / "hypermodel")
  page = example.make_page(initial, run)
  title = f"written, {TITLE}: every task"
  assert page.tables[title] == [
    [
      "Task",
      "First loss",
      "Lowest loss",
      "At step",
      "Last loss",
      "Steps to loss 0.4",
      "Steps to loss 0.1",
    ],
    ["a", "0.5000", "0.1000", "10", "0.3000", "10", "10"],
    ["b", "0.5000", "0.4000", "10", "0.4000", "10", "–"],
  ]
  text = (initial / "page.md").read_text()
  assert f"<summary>{title} (2 rows)</summary>" in text
  assert ["b", *page.tables[title][2][1:]] in example.rows_of(text)


def test_a_worse_beginning_is_said_to_be_worse(initial):
  written = _write(initial / "written", RANDOM, initial / "hypermodel")
  random = _write(initial / "random", WRITTEN, initial / "t5")
  page = example.make_page(initial, written, random)
  assert (
    "✗ Beginning with what a hypermodel writes takes more steps to loss 0.2 than "
    "random values: written against random: steps saved are at least -13.3 "
    "[-20.0, -10.0]"
  ) in page.text


def test_beginnings_alike_are_not_told_apart(initial):
  written = _write(initial / "written", WRITTEN, initial / "hypermodel")
  shared = _write(initial / "from_shared", WRITTEN, initial / "shared")
  page = example.make_page(initial, written, shared)
  assert (
    "? Nothing shows that beginning with what a hypermodel writes reaches loss 0.1 "
    "in fewer steps than a shared adapter"
  ) in page.text


def test_one_task_decides_nothing(initial):
  written = _write(
    initial / "written", {"a": [0.1, 0.1]}, initial / "hypermodel"
  )
  random = _write(initial / "random", {"a": [0.9, 0.1]}, initial / "t5")
  page = example.make_page(initial, written, random)
  assert "? Nothing shows that beginning with what a hypermodel" in page.text
  assert "one task has no interval" in page.text


def test_prefixes_and_lora_are_not_compared_and_the_page_says_so(initial):
  written = _write(initial / "written", WRITTEN, initial / "hypermodel", PREFIX)
  random = _write(initial / "random", RANDOM, initial / "t5", LORA)
  page = example.make_page(initial, written, random)
  assert not any("steps that a beginning saves" in x for x in page.tables)
  assert "Beginning with what" not in page.text
  assert (
    "Not in one comparison: held_out, prefixes of 4 on plants; held_out, LoRA of "
    "rank 8 on plants."
  ) in page.text


def test_runs_of_the_same_rate_are_compared_where_there_are_some(initial):
  paths = [
    _write(initial / "written", WRITTEN, initial / "hypermodel", rate=0.5),
    _write(initial / "slow", WRITTEN, initial / "hypermodel", rate=0.1),
    _write(initial / "random", RANDOM, initial / "t5", rate=0.5),
  ]
  page = example.make_page(initial, *paths)
  assert "written against random" in page.text
  assert "slow against random" not in page.text
  page = example.make_page(initial, *paths[1:])
  assert (
    "slow against random: steps saved are at least +13.3 [+10.0, +20.0] on average "
    "over the same tasks; fewer in 3 of 3 tasks, as many in 0, more in 0. But "
    "their learning rates differ (0.1 and 0.5)."
  ) in page.text


def test_a_beginning_is_named_where_it_was_moved_or_is_gone(initial):
  example.write_run(initial / "moved", problem="HyperTuning", was="/gone/one")
  paths = [
    _write(initial / "written", WRITTEN, "/gone/one"),
    _write(initial / "lost", WRITTEN, "/gone/other"),
  ]
  page = example.make_page(initial, *paths, initial / "moved")
  _, *rows = page.tables["Runs"]
  assert {row[0]: row[2] for row in rows} == {
    "written": "what a hypermodel writes",
    "lost": "other (no longer there)",
    "moved": "random values",
  }


def test_a_loss_that_is_not_finite_leaves_the_page_whole(initial):
  curves = {"a": [0.5, float("nan")], "b": [0.5, 0.4]}
  run = _write(initial / "written", curves, initial / "hypermodel")
  page = example.make_page(initial, run)
  rows = page.tables[f"{TITLE}: at the first and the last look"]
  assert rows[1][4:6] == ["0.5000 [0.5000, 0.5000]", "not finite"]
