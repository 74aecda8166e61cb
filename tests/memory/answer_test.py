"""Errors that say that memory lacks, and what they come to."""

import errno

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.commands import out_of_memory
from hyperjax.memory import answer, program

GIB = 2**30
# As XLA says it on a host, a GPU and a TPU, and numpy.
SAID = {
  "RESOURCE_EXHAUSTED: Out of memory allocating 5368709120 bytes.": 5 * GIB,
  "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 657.5GiB.": (
    657.5 * GIB
  ),
  "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in "
  "memory space hbm. Used 20.50G of 15.48G hbm. Exceeded hbm capacity by 5.02G.": (
    20.5 * GIB
  ),
  "RESOURCE_EXHAUSTED: Failed to allocate request for 1.5KiB": None,
  "std::bad_alloc": None,
}


@pytest.mark.parametrize("text", SAID)
def test_what_xla_says_is_found_and_its_bytes_are_read(text):
  error = RuntimeError(text)
  assert answer.found(error) is error
  assert answer.asked_for(error) == SAID[text]


def test_numpy_and_the_system_are_understood_too():
  with pytest.raises(MemoryError) as lacking:
    np.empty(1 << 50, np.float32)
  assert answer.found(lacking.value) is lacking.value
  assert answer.asked_for(lacking.value) == 4 * 2**50
  full = OSError(errno.ENOMEM, "Cannot allocate memory")
  assert answer.found(full) is full


def test_an_error_that_came_of_one_is_one_and_others_are_none():
  cause = MemoryError()
  try:
    try:
      raise cause
    except MemoryError as error:
      raise ValueError("a file cannot be read") from error
  except ValueError as error:
    assert answer.found(error) is cause
  others = (
    RuntimeError("INVALID_ARGUMENT"),
    OSError(errno.ENOENT, ""),
    ValueError("Out of memory"),
  )
  assert [answer.found(error) for error in others] == [None] * 3


def test_xla_itself_is_answered_with_what_is_asked_for_and_what_there_is():
  with pytest.raises(answer.OutOfMemory) as said, program.answering("a sum"):
    jnp.zeros(1 << 48, jnp.uint8).block_until_ready()
  assert said.value.asked == 1 << 48
  assert "a sum takes 262,144.0 GiB of memory, " in str(said.value)
  assert isinstance(said.value.__cause__, jax.errors.JaxRuntimeError)


def test_the_sentence_says_only_what_is_known():
  lacking = answer.OutOfMemory
  assert str(lacking("x")) == "x takes more memory than there is"
  assert str(lacking("x", 3 * GIB, GIB, "set Y=2")) == (
    "x takes 3.0 GiB of memory, 1.0 GiB are free for it: set Y=2"
  )


def test_a_command_says_which_setting_to_lower_where_nothing_else_does():
  said = out_of_memory.found("predict", MemoryError())
  assert said is not None and "lower --batch_size" in str(said)
  known = answer.OutOfMemory("x", 2, 1, "set Y=2")
  assert out_of_memory.found("predict", known) is known
  assert out_of_memory.found("predict", ValueError("x")) is None
