"""A file of what is answered: whole tasks, of the same settings, or none."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.evaluation import answered

TASKS = ["a", "b", "c"]
SETTINGS = {"seed": 1, "weights": "x"}
FOUND = [
  [(0, 0, {"right": "ä\nb", "none": ""}), (0, 1, {"right": "", "none": "x"})],
  [(0, 3, {"right": {"log_likelihoods": [-0.1, -2.5], "num_tokens": [1, 2]}})],
  [(1, 0, {"right": [1.25, 3]})],
]


def _open(path, settings=SETTINGS):
  return answered.Answered(path, settings, TASKS)


@pytest.fixture
def path(tmp_path):
  """A file of two tasks of three."""
  kept = _open(tmp_path / "out" / "x.jsonl")
  assert not kept.found and not (tmp_path / "out").exists()
  kept.add(FOUND[:1])
  kept.add(FOUND[1:2])
  return tmp_path / "out" / "x.jsonl"


def test_tasks_are_read_back_and_more_are_appended(path, capsys):
  kept = _open(path)
  assert kept.found == FOUND[:2] and kept.num_tasks == 2
  assert capsys.readouterr().out == (
    "x.jsonl goes on: 2 of 3 tasks are answered\n"
  )
  before = path.read_bytes()
  kept.add(FOUND[2:])
  assert path.read_bytes().startswith(before)
  assert _open(path).found == FOUND
  kept.remove()
  assert list(path.parent.iterdir()) == []


def test_several_tasks_are_added_together_as_one_by_one(path, tmp_path):
  other = tmp_path / "y.jsonl"
  _open(other).add(FOUND[:2])
  assert other.read_bytes() == path.read_bytes()


def test_wherever_it_was_cut_whole_tasks_are_left(path):
  """At every byte; what is added then stands where the cut was."""
  whole = path.read_bytes()
  ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
  assert len(ends) == 3
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    kept = _open(path)
    count = max(0, sum(end <= size for end in ends) - 1)
    assert kept.found == FOUND[:count], size
    kept.add(FOUND[count:2])
    assert path.read_bytes() == whole, size


@pytest.mark.parametrize(
  "change",
  [
    lambda line: line.replace(b'"right": ""', b'"right": "z"'),
    lambda line: line.replace(b'"task": "a"', b'"task": "c"'),
    lambda line: b'{"task": "a", "crc": 0}\n',
    lambda line: b"[]\n",
    lambda line: b"\xff\n",
    lambda line: b"\n",
  ],
)
def test_from_a_damaged_line_on_tasks_are_answered_again(path, change):
  first, second, third = path.read_bytes().splitlines(keepends=True)
  assert change(second) != second
  path.write_bytes(first + change(second) + third)
  kept = _open(path)
  assert kept.found == []
  kept.add(FOUND[:2])
  assert path.read_bytes() == first + second + third


def test_a_file_of_other_settings_is_put_aside(path, capsys):
  before = path.read_bytes()
  kept = _open(path, {"seed": 2, "weights": "x", "more": 1})
  assert kept.found == [] and not path.exists()
  assert path.with_name("x.jsonl.before").read_bytes() == before
  assert capsys.readouterr().out == (
    "x.jsonl was answered with other settings (more, seed): it is "
    "x.jsonl.before now, and all tasks are answered again\n"
  )
  kept.add(FOUND[:1])
  assert json.loads(path.read_bytes().splitlines()[0])["settings"]["seed"] == 2


@pytest.mark.parametrize("first", [b'{"settings": [1]}\n', b"{}\n", b"", b"\n"])
def test_a_file_that_says_nothing_of_its_settings_is_not_continued(path, first):
  rest = path.read_bytes().splitlines(keepends=True)[1:]
  path.write_bytes(first + b"".join(rest))
  assert _open(path).found == []


def _weights():
  values = np.random.default_rng(0).standard_normal((6, 4, 5))
  return {
    "params": {
      "a": jnp.asarray(values, jnp.float32),
      "b": jnp.asarray(values[0], jnp.bfloat16),
    },
    "frozen": {"c": jnp.float32(3)},
  }


def _fingerprint(weights, devices=1):
  layout = sharding.MeshSpec().build(jax.devices()[:devices])
  leaf = jax.device_put(weights["params"]["a"], layout.batch)
  placed = jax.device_put(weights, layout.replicated)
  placed["params"]["a"] = leaf
  return answered.fingerprint(placed, layout)


def test_weights_have_one_fingerprint_on_every_mesh():
  assert len({_fingerprint(_weights(), n) for n in (1, 2, 3)}) == 1


def test_other_weights_have_another_fingerprint():
  """The last bit of one value, two values exchanged, another name or shape."""
  found = {_fingerprint(_weights())}
  a = np.asarray(_weights()["params"]["a"])
  odd = a.copy()
  odd[3, 2, 1] = np.nextafter(odd[3, 2, 1], np.float32(9))
  swapped = a.copy()
  swapped[0, 0, :2] = a[0, 0, 1::-1]
  for other in (odd, swapped, a.reshape(6, 20), a.astype(np.float64)):
    weights = _weights()
    weights["params"]["a"] = jnp.asarray(other)
    found.add(_fingerprint(weights))
  weights = _weights()
  weights["params"]["d"] = weights["params"].pop("b")
  found.add(_fingerprint(weights))
  # What is float64 to numpy is float32 to jax: the same.
  assert len(found) == 5
