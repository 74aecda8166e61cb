"""Values that runs under way rely on are what they were (README.md)."""

import json

import numpy as np
import pytest

from tests.golden import make


def _stored(what):
  return json.loads((make.HERE / f"{what}.json").read_text())


@pytest.mark.parametrize("what", ["order", "defaults"])
def test_whole_numbers_and_text_are_what_they_were(what):
  stored, found = _stored(what), make.compute(what)
  assert found.keys() == stored.keys(), f"python -m tests.golden.make {what}"
  for name, parts in stored.items():
    assert found[name] == parts, name


def test_initial_values_are_drawn_as_they_were():
  """To five digits: the last bits are those of a version of jax."""
  stored, found = _stored("initial"), make.compute("initial")
  assert found.keys() == stored.keys()
  for name, arrays in stored.items():
    assert found[name].keys() == arrays.keys(), name
    for path, (size, *moments) in arrays.items():
      own_size, *own = found[name][path]
      assert own_size == size, (name, path)
      scale = max(map(abs, moments))
      np.testing.assert_allclose(
        own, moments, 0, 1e-5 * scale, err_msg=f"{name}: {path}"
      )


def test_stored_values_are_what_the_script_writes():
  for what in make.VALUES:
    text = (make.HERE / f"{what}.json").read_text()
    assert make.dumped(json.loads(text)) == text
