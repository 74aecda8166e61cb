"""Adapter folders: what is written is read, and nothing else passes."""

import dataclasses
import functools
import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax import adapters, paths
from hyperjax.artifacts import adapter_folder, encoded_examples
from hyperjax.artifacts.run_record import BackboneRef, TokenizerRef
from hyperjax.data.store import locks
from tests import testing

SPECS = {
  **testing.SPECS,
  "prefix, one site": adapters.PrefixSpec(2, sites=("decoder.self_attention",)),
}


@functools.cache
def _adapter(name="lora", seed=0, dtype=np.float32):
  spec = SPECS[name]
  generator = np.random.default_rng(seed)
  drawn = jax.tree.map(
    lambda leaf: generator.normal(size=leaf.shape),
    spec.abstract(testing.CONFIG),
  )
  info = adapter_folder.Info(
    spec=spec,
    config=testing.CONFIG,
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=TokenizerRef("sentencepiece", "cd" * 32),
    lengths={"demonstrations": 9, "inputs": 7, "targets": 5},
    origin={"hypermodel": {"run": "/run", "step": 3}},
  )
  leaves = adapters.path_leaves(drawn)
  arrays = adapter_folder.of_paths(
    info, {path: np.asarray(leaf, dtype) for path, leaf in leaves.items()}
  )
  return adapter_folder.Adapter(info, arrays)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_an_adapter_is_read_as_it_was_written(tmp_path, name, dtype):
  adapter = _adapter(name, dtype=dtype)
  adapter.save(tmp_path / "a")
  found = adapter_folder.read(tmp_path / "a")
  assert found.info == adapter.info
  assert found.identity == adapter.identity
  wanted = adapters.path_leaves(adapter.arrays)
  leaves = adapters.path_leaves(found.arrays)
  assert leaves.keys() == wanted.keys()
  for path, leaf in leaves.items():
    assert leaf.dtype == dtype
    np.testing.assert_array_equal(leaf, wanted[path])
  assert adapter_folder.read_info(tmp_path / "a") == (
    adapter.info,
    adapter.identity,
  )


def test_arrays_are_named_by_what_they_change(tmp_path):
  _adapter("prefix, one site").save(tmp_path / "a")
  arrays = safetensors.load_file(tmp_path / "a" / "adapter.safetensors")
  assert {name: array.shape for name, array in arrays.items()} == {
    "decoder.self_attention.prefix.key": (3, 1, 2, 2, 8),
    "decoder.self_attention.prefix.value": (3, 1, 2, 2, 8),
  }


def test_the_same_adapter_is_the_same_bytes(tmp_path):
  for name in ("a", "b"):
    _adapter().save(tmp_path / name)
  for file in ("adapter.safetensors", "adapter.json"):
    a, b = [(tmp_path / name / file).read_bytes() for name in ("a", "b")]
    assert a == b


def test_only_an_adapter_folder_is_replaced_and_only_when_asked(tmp_path):
  first, second = _adapter(), _adapter(seed=1)
  first.save(tmp_path / "a")
  with pytest.raises(ValueError, match="a exists; --overwrite replaces it"):
    second.save(tmp_path / "a")
  assert adapter_folder.read(tmp_path / "a").identity == first.identity
  second.save(tmp_path / "a", overwrite=True)
  assert adapter_folder.read(tmp_path / "a").identity == second.identity
  (tmp_path / "thesis").mkdir()
  (tmp_path / "thesis" / "text.tex").write_text("years of work")
  with pytest.raises(ValueError, match="exists and is no adapter folder"):
    first.save(tmp_path / "thesis", overwrite=True)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "thesis"]
  assert (tmp_path / "thesis" / "text.tex").read_text() == "years of work"


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
  adapter = _adapter()
  bad = dataclasses.replace(adapter.info, origin={"not JSON": {1, 2}})
  adapter.save(tmp_path / "a")
  before = (tmp_path / "a" / "adapter.json").read_bytes()
  for folder in ("a", "b"):
    with pytest.raises(TypeError):
      dataclasses.replace(adapter, info=bad).save(tmp_path / folder, True)
  assert [path.name for path in tmp_path.iterdir()] == ["a"]
  assert (tmp_path / "a" / "adapter.json").read_bytes() == before


def test_of_several_none_is_written_where_one_fails(tmp_path):
  adapter = _adapter()
  bad = dataclasses.replace(adapter.info, origin={"not JSON": {1, 2}})
  out = tmp_path / "out"
  broken = dataclasses.replace(adapter, info=bad)
  with pytest.raises(TypeError):
    adapter_folder.write_all([(out / "a", adapter), (out / "b", broken)])
  assert not list(tmp_path.iterdir())
  other = _adapter(seed=1)
  adapter_folder.write_all([(out / "a", adapter), (out / "b", other)])
  assert sorted(path.name for path in out.iterdir()) == ["a", "b"]
  for name, wanted in (("a", adapter), ("b", other)):
    assert adapter_folder.read(out / name).identity == wanted.identity


def test_a_folder_that_is_not_there_may_be_the_nearest(tmp_path):
  _adapter().save(tmp_path / "plain")
  wanted = rf"plian: there is no such adapter folder; .* {tmp_path}/plain\?$"
  with pytest.raises(ValueError, match=wanted):
    adapter_folder.read_info(tmp_path / "plian")
  with pytest.raises(ValueError, match=r"other: .* adapter folder$"):
    adapter_folder.read_info(tmp_path / "other")


def test_arrays_that_the_spec_does_not_describe_are_not_written(tmp_path):
  info = dataclasses.replace(_adapter().info, spec=adapters.LoraSpec(2))
  with pytest.raises(ValueError, match=r"extra: decoder\.encoder_decoder"):
    adapter_folder.Adapter(info, _adapter().arrays).save(tmp_path / "a")
  assert not list(tmp_path.iterdir())


def _arrays(change):
  def damage(folder):
    path = folder / "adapter.safetensors"
    arrays = safetensors.load_file(path)
    change(arrays)
    safetensors.save_file(arrays, path)

  return damage


def _json(**changes):
  def damage(folder):
    path = folder / "adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

  return damage


def _cut(name, size):
  def damage(folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:size])

  return damage


DOWN = "encoder.attention.query.down"


def _resize(arrays):
  arrays[DOWN] = arrays[DOWN][..., :1].copy()


def _flatten(arrays):
  arrays[DOWN] = arrays[DOWN].reshape(-1)


def _flip(arrays):
  arrays[DOWN][0, 0, 0, 0] += 1


def _spoil(arrays):
  arrays[DOWN][0, 0, 0, 0] = np.nan


DAMAGES = {
  "cut arrays": (_cut("adapter.safetensors", 900), "not a whole safetensors"),
  "empty arrays": (_cut("adapter.safetensors", 0), "not a whole safetensors"),
  "no arrays": (
    lambda folder: (folder / "adapter.safetensors").unlink(),
    "adapter.safetensors is missing",
  ),
  "no info": (
    lambda folder: (folder / "adapter.json").unlink(),
    "no adapter folder: it has no adapter.json",
  ),
  "cut info": (_cut("adapter.json", 100), "adapter.json: not JSON"),
  "missing": (_arrays(lambda x: x.pop(DOWN)), f"missing: {DOWN}"),
  "extra": (
    _arrays(lambda x: x.update(more=x[DOWN])),
    "extra: more",
  ),
  "shape": (
    _arrays(_resize),
    rf"wrong shape: {DOWN} is \(2, 1, 12, 1\), not \(2, 1, 12, 2\)",
  ),
  "rank": (_arrays(_flatten), f"wrong shape: {DOWN} is \\(48,\\)"),
  "value": (_arrays(_flip), "is not the file that adapter.json was written"),
  "not finite": (_arrays(_spoil), f"not finite: {DOWN}"),
  "format": (_json(format=2), "has format 2, this version of HyperJAX reads 1"),
  "kind": (
    _json(kind="BottleneckSpec"),
    "kind must be one of PrefixSpec, LoraSpec, PlacedLoraSpec, Ia3Spec, MemorySpec, ComposedSpec, got "
    "'BottleneckSpec'",
  ),
  "other kind": (_json(kind="PrefixSpec"), "adapter.json: spec has an unknown"),
  "spec": (_json(spec={"alpha": 2}), "adapter.json: spec lacks 'rank'"),
  "no backbone": (_json(backbone={}), "backbone has no 'config'"),
  "lengths": (_json(lengths=3), "lengths must be a JSON object, got 3"),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_by_file_and_array(
  tmp_path, damage, message
):
  _adapter().save(tmp_path / "a")
  damage(tmp_path / "a")
  with pytest.raises(ValueError, match=message) as refusal:
    adapter_folder.read(tmp_path / "a")
  assert str(tmp_path / "a") in str(refusal.value)


def test_no_folder_is_refused(tmp_path):
  with pytest.raises(ValueError, match="nothing: there is no such adapter"):
    adapter_folder.read(tmp_path / "nothing")


def test_another_backbone_is_refused():
  info = _adapter().info
  adapter_folder.check_backbone(info, "ab" * 32, "a")
  message = "a is an adapter of the T5 abababababababab .* is cdcdcdcdcdcdcdcd"
  with pytest.raises(ValueError, match=message):
    adapter_folder.check_backbone(info, "cd" * 32, "a")


@pytest.mark.parametrize("mask, wanted", [(0o022, 0o644), (0o002, 0o664)])
def test_files_are_for_whom_the_umask_says(tmp_path, mask, wanted):
  encoded = encoded_examples.Encoded(np.zeros((2, 3), np.float32), 2)
  adapter = dataclasses.replace(_adapter(), encoded=encoded)
  before = os.umask(mask)
  try:
    adapter.save(tmp_path / "a")
    paths.replace(tmp_path / "a" / "text", "of any kind")
    (tmp_path / "stored").mkdir()
    folder = locks.temporary_folder(tmp_path / "stored")
  finally:
    os.umask(before)
  modes = {x.name: x.stat().st_mode & 0o777 for x in (tmp_path / "a").iterdir()}
  names = ["adapter.json", "adapter.safetensors", "encoded.safetensors", "text"]
  assert modes == dict.fromkeys(names, wanted)
  assert folder.stat().st_mode & 0o777 == 0o777 & ~mask
