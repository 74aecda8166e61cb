"""What reaches the terminal, of lines that are written to it from C++."""

import logging
import os
import subprocess
import sys

import pytest

from hyperjax.data.store import terminal

NOTE = b"normalizer.cc(51) LOG(INFO) identity normalization.\n"
WARNING = b"normalizer.cc(51) LOG(WARNING) unknown symbols.\n"


def _write(text):
  os.write(2, text)


def test_notes_are_kept_from_the_terminal_and_nothing_else_is(capfd):
  with terminal.without_notes():
    _write(b"before\n" + NOTE)
    _write(NOTE[:9])  # a line may come in parts
    _write(NOTE[9:] + WARNING)
    subprocess.run(
      [sys.executable, "-c", f"import os; os.write(2, {NOTE + b'theirs'!r})"],
      check=True,
    )
  _write(b" after\n" + NOTE)
  found = capfd.readouterr().err.encode()
  assert found == b"before\n" + WARNING + b"theirs" + b" after\n" + NOTE


def test_what_is_said_before_a_failure_is_said(capfd):
  with pytest.raises(KeyboardInterrupt), terminal.without_notes():
    _write(b"almost")
    raise KeyboardInterrupt
  assert capfd.readouterr().err == "almost"


def test_who_asks_for_all_gets_notes_too(capfd, caplog):
  with caplog.at_level(logging.INFO), terminal.without_notes():
    _write(NOTE)
  assert NOTE in capfd.readouterr().err.encode()
