"""Damaged checkpoints: orbax's files, and what is done about each."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints, train_state
from tests import damage

PARAMS = {"a": {"x": np.arange(3.0)}, "b": {"y": np.ones((2, 2))}}
OPT_STATE = {"m": np.zeros(3, np.float32)}


def _state(step=7):
  return train_state.TrainState(
    jnp.int32(step),
    jax.tree.map(jnp.float32, PARAMS),
    {},
    jax.tree.map(jnp.float32, OPT_STATE),
    jax.random.key(0),
  )


def _save(folder, *steps):
  saver = checkpoints.Checkpoints(folder / "checkpoints")
  for step in steps or (7,):
    state = _state(step)
    facts = checkpoints.Facts(step, {}, checkpoints.key_data(state.key))
    saver.save(state, facts)
    saver.wait()
  saver.close()


def _abstract():
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])

  def described(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

  state = _state()
  return train_state.TrainState(
    described(state.step),
    jax.tree.map(described, state.params),
    {},
    jax.tree.map(described, state.opt_state),
    described(jax.eval_shape(lambda: jax.random.key(0))),
  )


def _read(folder):
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  try:
    assert saver.latest() == 7
    state = saver.restore(7, _abstract(), {})
    np.testing.assert_array_equal(state.params["a"]["x"], PARAMS["a"]["x"])
  finally:
    saver.close()


def _of_item(of_step, item):
  """The file that holds the item's arrays, by its place in the checkpoint."""
  paths = [x for x in (of_step / item / "d").iterdir() if x.is_file()]
  return max(paths, key=lambda x: x.stat().st_size)


# What says where arrays lie, and how, is read by threads of orbax's and TensorStore's
# own, which a damaged file would end with the process now and then.
FILES = [
  "facts/metadata",
  "manifest.json",
  "params/_METADATA",
  "params/_sharding",
  "params/manifest.ocdbt",
  "opt_state/_METADATA",
]


# Orbax leaves what it has begun where it meets something damaged.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("file", FILES)
def test_damaged_files_are_refused_by_name_or_read(tmp_path, file):
  damage.search(
    damage.Case(
      file,
      _save,
      f"checkpoints/7/{file}",
      _read,
      file in ("facts/metadata", "manifest.json"),
      "checkpoints/7",
    ),
    tmp_path,
  )


def _flip(path):
  """Changes a bit in the middle; the file's length stays."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0x40
  path.write_bytes(content)


def _cut(path):
  path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {
  "a bit of an array": lambda at: _flip(_of_item(at, "params")),
  "a bit of a moment": lambda at: _flip(_of_item(at, "opt_state")),
  "an array cut": lambda at: _cut(_of_item(at, "params")),
  "an array gone": lambda at: _of_item(at, "params").unlink(),
  "list of arrays cut": lambda at: _cut(at / "params" / "_METADATA"),
  "list of arrays": lambda at: _flip(at / "params" / "_METADATA"),
  "places": lambda at: _flip(at / "params" / "_sharding"),
  "database cut": lambda at: _cut(at / "params" / "manifest.ocdbt"),
  "facts": lambda at: _flip(at / "facts" / "metadata"),
  "manifest cut": lambda at: _cut(at / "manifest.json"),
  "manifest gone": lambda at: (at / "manifest.json").unlink(),
  "item gone": lambda at: shutil.rmtree(at / "opt_state"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """The checkpoints 2 and 4."""
  folder = tmp_path_factory.mktemp("saved")
  _save(folder, 2, 4)
  return folder / "checkpoints"


@pytest.fixture
def folder(saved, tmp_path):
  """A copy of these."""
  shutil.copytree(saved, tmp_path / "checkpoints")
  return tmp_path / "checkpoints"


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_whole_by_name(folder, caplog, name):
  """Also where the same step was damaged before."""
  (folder / "damaged-4").mkdir()
  DAMAGE[name](folder / "4")
  left = sorted(x.relative_to(folder / "4") for x in folder.glob("4/**/*"))
  saver = checkpoints.Checkpoints(folder)
  assert saver.last_whole() == 2
  assert saver.steps() == [2] and saver.facts(2).position == 2
  saver.close()
  assert _names(folder) == ["2", "damaged-4", "damaged-4-2"]
  aside = folder / "damaged-4-2"
  assert left == sorted(x.relative_to(aside) for x in aside.rglob("*"))
  (said,) = [x for x in caplog.messages if "is damaged" in x]
  assert "it is now damaged-4-2, and the run goes on from step 2" in said


def test_a_step_that_was_set_aside_is_saved_again(folder):
  _flip(_of_item(folder / "4", "params"))
  saver = checkpoints.Checkpoints(folder)
  saver.last_whole()
  saver.save(_state(4), checkpoints.Facts(9, {}, [0, 0]))
  saver.wait()
  assert saver.last_whole() == 4 and saver.facts(4).position == 9
  saver.close()
  assert _names(folder) == ["2", "4", "damaged-4"]


def test_where_none_is_whole_it_is_an_error_and_all_stay_in_place(folder):
  for step in ("2", "4"):
    _flip(_of_item(folder / step, "params"))
  with pytest.raises(
    checkpoints.Damaged,
    match=r"checkpoints/4 is damaged: params/d/.* holds other bytes than were "
    r"written; of 2 checkpoints none is whole$",
  ):
    checkpoints.Checkpoints(folder).last_whole()
  assert _names(folder) == ["2", "4"]


def test_whoever_reads_another_run_passes_a_damaged_checkpoint_over(
  folder, caplog
):
  """It may be going on, or be another's: nothing is renamed."""
  _flip(_of_item(folder / "4", "params"))
  reader = checkpoints.Checkpoints(folder, read_only=True)
  with caplog.at_level(logging.WARNING):
    assert reader.last_whole() == 2
  assert "it is passed over" in caplog.text
  with pytest.raises(checkpoints.Damaged, match="4 is damaged: params/d/"):
    reader.shapes(4)
  reader.close()
  assert _names(folder) == ["2", "4"]


def test_who_reads_parameters_alone_reads_no_moments(folder, tmp_path):
  """Neither their bytes: they are most of a checkpoint. But all must be there."""
  file = _of_item(folder / "4", "opt_state")
  _flip(file)
  reader = checkpoints.Checkpoints(folder, read_only=True)
  assert reader.last_whole() == 4
  params = reader.restore_params(4, _abstract().params)
  np.testing.assert_array_equal(params["b"]["y"], PARAMS["b"]["y"])
  assert reader.facts(4).position == 4
  with pytest.raises(checkpoints.Damaged, match="4 is damaged: opt_state/d/"):
    reader.restore(4, _abstract(), {})
  file.unlink()
  with pytest.raises(checkpoints.Damaged, match="4 is damaged: opt_state/d/"):
    reader.restore_params(4, _abstract().params)
  assert reader.last_whole() == 2
  reader.close()


def test_a_checkpoint_that_never_had_a_manifest_is_read_as_it_is(folder):
  """Those of earlier versions have none; their facts promise none."""
  of_step = folder / "4"
  facts = of_step / "facts" / "metadata"
  facts.write_text(facts.read_text().replace('"has_manifest": true', '"x": 1'))
  assert "has_manifest" not in facts.read_text()
  (of_step / "manifest.json").unlink()
  saver = checkpoints.Checkpoints(folder)
  assert saver.last_whole() == 4
  assert saver.facts(4).position == 4
  saver.close()


def test_the_manifest_names_every_file_that_is_read(folder):
  """But what orbax notes when the checkpoint has its name, which nobody needs."""
  found = checkpoints.manifest.read(folder / "4" / "manifest.json")
  there = [x for x in (folder / "4").rglob("*") if x.is_file()]
  names = {x.relative_to(folder / "4").as_posix() for x in there}
  later = {"_CHECKPOINT_METADATA", "commit_success.txt"}
  assert names - set(found) == {"manifest.json", *later}
  for name in later:
    (folder / "4" / name).write_bytes(b"\0{[")
  reader = checkpoints.Checkpoints(folder, read_only=True)
  state = reader.restore(4, _abstract(), {})
  np.testing.assert_array_equal(state.params["b"]["y"], PARAMS["b"]["y"])
  reader.close()
