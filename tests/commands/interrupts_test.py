"""An interrupt that Python would ignore ends a command all the same."""

import gc
import signal
import sys
import time

import pytest

from hyperjax.commands import interrupts


@pytest.fixture(autouse=True)
def _heard():
  """A process that runs tests for another may have been told to ignore them."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


class _Ends:
  """What raises where nothing can be raised."""

  def __init__(self, error):
    self.error = error

  def __del__(self):
    raise self.error


def test_an_interrupt_at_a_collection_of_garbage_comes_again():
  def collecting(phase, info):
    del phase, info
    gc.callbacks.remove(collecting)
    raise KeyboardInterrupt

  before = sys.unraisablehook
  gc.callbacks.append(collecting)
  with pytest.raises(KeyboardInterrupt), interrupts.kept():
    gc.collect()
    for _ in range(100):
      time.sleep(0.1)
  assert sys.unraisablehook is before


def test_other_errors_that_are_ignored_are_told_as_before(monkeypatch):
  told = []
  monkeypatch.setattr(sys, "unraisablehook", told.append)
  with interrupts.kept():
    _Ends(OSError("gone"))
  [found] = told
  assert found.exc_type is OSError


def test_an_interrupt_of_a_command_that_has_ended_comes_no_more():
  with interrupts.kept():
    _Ends(KeyboardInterrupt())
  time.sleep(0.2)  # in which it would come
