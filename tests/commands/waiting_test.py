"""A command that takes its time says so."""

import time
import types

import pytest

from hyperjax import main
from hyperjax.commands import arguments, waiting


@pytest.fixture
def quick(monkeypatch):
  """Seconds until something is said, for a test: 0.3 in place of 2."""
  monkeypatch.setattr(waiting, "_FIRST", 0.3)
  monkeypatch.setattr(waiting, "_compiling", [])
  monkeypatch.delenv(waiting.SETTING)


def test_a_long_compilation_is_spoken_of_once_and_a_short_one_is_not(
  quick, capsys
):
  for seconds in (0.1, 1.0):
    with waiting.Waiting("adapt", says_work=True):
      waiting._told(waiting._LOWERED, 0.01)
      time.sleep(seconds)
      waiting._told(waiting._COMPILED, seconds)
      time.sleep(0.3)
    said = capsys.readouterr()
    wanted = [] if seconds < 0.3 else ["hyperjax adapt: compiling ... (0:00)"]
    assert (said.out, said.err.splitlines()) == ("", wanted)


def test_nothing_is_said_where_that_is_asked_for(quick, capsys, monkeypatch):
  monkeypatch.setenv(waiting.SETTING, "off")
  with waiting.Waiting("adapt", says_work=True):
    waiting._told(waiting._LOWERED, 0.01)
    time.sleep(0.8)
  assert capsys.readouterr().err == ""


def test_work_is_spoken_of_where_somebody_watches(quick, capsys, monkeypatch):
  for is_watched in (True, False):
    monkeypatch.setattr("sys.stderr.isatty", lambda own=is_watched: own)
    with waiting.Waiting("export", says_work=True):
      time.sleep(0.8)
    wanted = ["hyperjax export: working ... (0:00)"] * is_watched
    assert capsys.readouterr().err.splitlines() == wanted


def test_jax_tells_when_it_compiles(monkeypatch):
  import jax

  heard = []
  monkeypatch.setattr(waiting, "_listeners", [])
  monkeypatch.setattr(
    waiting, "_told", lambda event, *_, **__: heard.append(event)
  )
  waiting._listen()
  jax.jit(lambda x: x * 3 + heard.count("never"))(1.5)
  lowered, compiled = map(heard.index, (waiting._LOWERED, waiting._COMPILED))
  assert lowered < compiled


@pytest.mark.parametrize("command", ["serve", "adapt"])
def test_what_tells_itself_what_it_does_is_not_spoken_of(
  quick, capsys, monkeypatch, command
):
  summary, module = arguments.PLAIN[command]
  own = types.SimpleNamespace(
    add_arguments=module.add_arguments, run=lambda _: time.sleep(0.8)
  )
  monkeypatch.setitem(arguments.PLAIN, command, (summary, own))
  monkeypatch.setattr("sys.stderr.isatty", lambda: True)
  given = {
    "serve": ["--model=x", "--adapters=y"],
    "adapt": ["--model=x", "--examples=y.csv", "--out=z"],
  }[command]
  assert main.main([command, *given]) == 0
  wanted = ["hyperjax adapt: working ... (0:00)"] * (command == "adapt")
  assert capsys.readouterr().err.splitlines() == wanted
