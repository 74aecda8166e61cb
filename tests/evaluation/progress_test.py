"""Where an evaluation says that it stands."""

import sys
import threading

import jax
import pytest

from hyperjax.evaluation.progress import Progress


def test_a_line_has_tasks_answers_speed_and_what_is_left():
  progress = Progress("few", 16, 9600)
  assert progress.line(0.0) == "few: 0 of 16 tasks, 0 of 9,600 answers"
  progress.add(600)
  progress.add(0, tasks=2)
  # 10 a second: 9,000 take 900 seconds.
  assert progress.line(60.0) == (
    "few: 2 of 16 tasks, 600 of 9,600 answers, 10 answers/s, 0:15:00 left"
  )


def test_what_was_answered_before_has_no_part_in_the_speed():
  progress = Progress("few", 4, 400, tasks_done=2, answers_done=200)
  assert progress.line(10.0) == "few: 2 of 4 tasks, 200 of 400 answers"
  progress.add(20, 1)
  assert progress.line(10.0) == (
    "few: 3 of 4 tasks, 220 of 400 answers, 2 answers/s, 0:01:30 left"
  )


def test_what_is_asked_again_counts_once():
  progress = Progress("few", 4, 400, tasks_done=2, answers_done=200)
  progress.again(100)
  progress.add(20)
  # 2 a second: 280 take 140 seconds.
  assert progress.line(10.0) == (
    "few: 2 of 4 tasks, 120 of 400 answers, 2 answers/s, 0:02:20 left"
  )


def test_a_compilation_is_named_while_it_lasts():
  progress = Progress("few", 1, 9)
  with progress.compiling("8 rows of 1,024 tokens"):
    assert progress.line(1.0).endswith(
      "answers; compiling for 8 rows of 1,024 tokens"
    )
  assert progress.line(1.0).endswith("answers")


def test_where_there_is_no_terminal_a_line_comes_at_once_and_at_the_end(capsys):
  with Progress("few", 2, 8) as progress:
    assert capsys.readouterr().out == "few: 0 of 2 tasks, 0 of 8 answers\n"
    progress.add(8, 2)
  said = capsys.readouterr()
  assert said.out.startswith("few: 2 of 2 tasks, 8 of 8 answers, ")
  assert said.err == ""


def _threads():
  return {thread.ident for thread in threading.enumerate()}


def test_nothing_watches_any_more_once_it_is_closed():
  before = _threads()
  with pytest.raises(KeyError), Progress("few", 2, 8):
    raise KeyError
  assert _threads() <= before


def test_who_is_not_to_be_shown_is_silent(capsys, monkeypatch):
  """While training, and in all processes but the first."""
  with Progress("few", 2, 8, is_shown=False) as progress:
    progress.add(1, 1)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with Progress("few", 2, 8) as progress:
    progress.add(1, 1)
  said = capsys.readouterr()
  assert said.out == said.err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
  with Progress("few", 2, 8) as progress:
    progress.add(8, 1)
  said = capsys.readouterr()
  assert said.out == ""
  assert "few: 100%" in said.err and "8/8" in said.err
