"""Checkpoints of t5x: real ones, every layout, and refusal of broken ones."""

import dataclasses
import json
import logging
import shutil

import ml_dtypes
import msgpack
import numpy as np
import pytest
import tensorstore

from hyperjax.interop import t5x, weights, zarr_folders
from tests import conftest, testing
from tests.interop import t5x_files

BIAS = "encoder/relpos_bias/rel_embedding"
QUERY = "encoder/layers_0/attention/query/kernel"


@pytest.fixture(scope="module")
def arrays():
  return t5x_files.arrays_of()


def _assert_holds(source, arrays):
  assert set(source.shapes) == set(arrays)
  for name, array in arrays.items():
    assert source.shapes[name] == array.shape
    found = source.read(name)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array, name)


@pytest.mark.parametrize("layout", ["legacy", "orbax"])
@pytest.mark.parametrize("place", ["", "checkpoint_1000"])
def test_parameters_are_those_that_t5x_wrote(layout, place):
  folder = conftest.MODELS / "t5x_tiny"
  wanted = np.load(folder / "t5_tiny_params.npz")
  source = t5x.open_checkpoint(folder / f"t5_tiny_{layout}" / place)
  _assert_holds(source, {name: wanted[name] for name in wanted.files})
  config = source.config
  assert (config.num_heads, config.head_dim, config.mlp_dim) == (2, 16, 64)
  assert config.mlp_activations == ("gelu", "linear")
  assert not config.logits_via_embedding
  assert (config.num_encoder_layers, config.num_decoder_layers) == (2, 2)


def test_a_scanned_model_of_t5x_has_a_bias_of_each_layer():
  folder = conftest.MODELS / "t5x_tiny" / "t5_tiny_scan_legacy"
  source = t5x.open_checkpoint(folder)
  assert source.config.relpos_per_layer
  weights.check_whole(source)
  first, second = (
    source.read(f"encoder/layers_{i}/relpos_bias/rel_embedding")
    for i in range(2)
  )
  assert first.shape == second.shape == (source.config.num_heads, 32)
  assert not np.array_equal(first, second)


def test_chunks_are_put_together_and_trimmed(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path / "checkpoint_7", arrays, chunk=5)
  folder = tmp_path / "checkpoint_7" / "target.token_embedder.embedding"
  # 40 x 12 in chunks of 5 x 5, of which the last column's are cut.
  assert len(list(folder.iterdir())) == 8 * 3 + 1
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


@pytest.mark.parametrize("driver", ["gcs", "gfile", "s3"])
def test_arrays_written_in_a_bucket_are_read_beside_the_file(
  tmp_path, arrays, driver
):
  t5x_files.write_legacy(tmp_path / "checkpoint_7", arrays, driver=driver)
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


def test_specs_of_old_versions_have_their_path_beside_the_kvstore(
  tmp_path, arrays
):
  def old(name, spec):
    path = spec["kvstore"].pop("path")
    return spec | {"path": path.rstrip("/")}

  t5x_files.write_legacy(tmp_path, arrays, driver="gcs", change=old)
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


def test_arrays_inside_the_file_are_read(tmp_path, arrays):
  inline = [name for name in arrays if name.endswith("scale")]
  t5x_files.write_legacy(tmp_path, arrays, inline=[*inline, QUERY])
  assert not (tmp_path / "target.encoder.encoder_norm.scale").exists()
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


@pytest.mark.parametrize("inline", [(), (QUERY, BIAS)])
def test_bfloat16_stays(tmp_path, inline):
  low = t5x_files.arrays_of(dtype=ml_dtypes.bfloat16)
  t5x_files.write_legacy(tmp_path / "low", low, chunk=7, inline=inline)
  source = t5x.open_checkpoint(tmp_path / "low")
  _assert_holds(source, low)
  full = t5x_files.arrays_of()
  t5x_files.write_legacy(tmp_path / "full", full)
  other = t5x.open_checkpoint(tmp_path / "full")
  assert weights.identity(source) != weights.identity(other)


@pytest.mark.parametrize(
  "options",
  [{"ocdbt": True}, {"ocdbt": False}, {"ocdbt": True, "zarr3": True}],
  ids=str,
)
def test_every_layout_of_orbax_is_read(tmp_path, arrays, options):
  t5x_files.write_orbax(tmp_path / "checkpoint_9", arrays, **options)
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


def test_orbax_before_its_metadata_file_is_read(tmp_path, arrays):
  """Old versions list arrays in a msgpack file; some values are inside it."""
  t5x_files.write_orbax(tmp_path / "checkpoint_9", arrays, ocdbt=False)
  state = tmp_path / "checkpoint_9" / "state"
  (state / "_METADATA").unlink()
  target = {}
  for name, array in arrays.items():
    folder = "target." + name.replace("/", ".")
    target[name] = f"PLACEHOLDER://{folder}"
    if name == BIAS:
      shutil.rmtree(state / folder)
      target[name] = array
  tree = {"state": {"step": 3}, "target": t5x_files.trees.unflatten(target)}
  content = t5x_files.serialization.msgpack_serialize(tree)
  (state / "checkpoint").write_bytes(content)
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


def test_a_database_of_arrays_without_metadata_is_listed(tmp_path, arrays):
  t5x_files.write_orbax(tmp_path / "checkpoint_9", arrays, ocdbt=True)
  (tmp_path / "checkpoint_9" / "state" / "_METADATA").unlink()
  _assert_holds(t5x.open_checkpoint(tmp_path), arrays)


def test_all_formats_give_one_identity(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path / "a", arrays, chunk=4)
  t5x_files.write_orbax(tmp_path / "b", arrays, ocdbt=True)
  wanted = weights.load(t5x_files.source_of(), testing.CONFIG).identity
  for folder in ("a", "b"):
    opened = t5x.open_checkpoint(tmp_path / folder)
    assert weights.identity(opened) == wanted
    assert weights.load(opened, testing.CONFIG).identity == wanted


def test_the_last_whole_step_is_read(tmp_path, arrays, caplog):
  for step, seed in ((90, 1), (1000, 0)):
    given = t5x_files.arrays_of(seed=seed)
    t5x_files.write_legacy(tmp_path / f"checkpoint_{step}", given)
  (tmp_path / "checkpoint_2000" / "target.some").mkdir(parents=True)
  (tmp_path / "checkpoint_3000.tmp-123").mkdir()
  with caplog.at_level(logging.WARNING):
    source = t5x.open_checkpoint(tmp_path)
  assert source.path == str(tmp_path / "checkpoint_1000")
  assert "checkpoint_2000 is not whole" in caplog.text
  _assert_holds(source, arrays)


def test_the_file_goes_before_orbax_in_one_checkpoint(tmp_path, arrays, caplog):
  step = tmp_path / "checkpoint_1"
  t5x_files.write_orbax(step, t5x_files.arrays_of(seed=1), ocdbt=True)
  t5x_files.write_legacy(step, arrays)
  with caplog.at_level(logging.WARNING):
    _assert_holds(t5x.open_checkpoint(step), arrays)
  assert "the file is read" in caplog.text


@pytest.mark.parametrize("layout", ["legacy", "ocdbt", "zarr"])
def test_a_bucket_is_read_as_a_folder_is(tmp_path, arrays, layout):
  """A store in memory is to TensorStore what one of gs:// is."""
  context = tensorstore.Context()
  memory = zarr_folders.open_store("memory://bucket/models", context)
  bucket = tensorstore.KvStore.open(
    "memory://bucket/models/", context=context
  ).result()
  step = tmp_path / "checkpoint_5"
  if layout == "legacy":
    t5x_files.write_legacy(step, arrays, chunk=6, inline=[BIAS])
  else:
    t5x_files.write_orbax(step, arrays, ocdbt=layout == "ocdbt")
  for file in tmp_path.rglob("*"):
    if file.is_file():
      bucket[str(file.relative_to(tmp_path))] = file.read_bytes()
  source = t5x.open_checkpoint(memory)
  assert source.path == "memory://bucket/models/checkpoint_5/"
  _assert_holds(source, arrays)
  # The same through a URL of files.
  _assert_holds(t5x.open_checkpoint(f"file://{tmp_path}"), arrays)


def _spec(**changes):
  def change(name, spec):
    if name != QUERY:
      return spec
    return spec | changes

  return change


def _kvstore(**changes):
  def change(name, spec):
    if name != QUERY:
      return spec
    return spec | {"kvstore": spec["kvstore"] | changes}

  return change


@pytest.mark.parametrize(
  "change, message",
  [
    (_spec(driver="n5"), "a spec of driver 'zarr'"),
    (_spec(kvstore="file:///etc/"), "a spec of driver 'zarr' with a kvstore"),
    (_kvstore(driver="http"), "the kvstore's driver must be one of"),
    (_kvstore(path="../secret/"), r"'../secret/' does not lead into"),
    (_kvstore(path="/etc/"), "'/etc/' does not lead into"),
    (_kvstore(path="a/../../b"), "does not lead into"),
    (_kvstore(path=""), "'' does not lead into"),
    (_kvstore(path="target.elsewhere/"), r"target\.elsewhere is missing"),
    (_spec(dtype="bfloat16"), "dtype is float32, while the .* says bfloat16"),
    (
      _spec(metadata={"shape": [16, 12], "chunks": [12, 16]}),
      r"shape is \(12, 16\), while the .* says \(16, 12\)",
    ),
    (_spec(metadata={"chunks": [3, 3]}), "chunks is .* says"),
  ],
)
def test_a_spec_that_lies_or_leads_away_is_refused(
  tmp_path, arrays, change, message
):
  t5x_files.write_legacy(tmp_path, arrays, change=change)
  with pytest.raises(ValueError, match=message):
    t5x.open_checkpoint(tmp_path)


def _array_folder(folder):
  return folder / "target.encoder.layers_0.attention.query.kernel"


@pytest.mark.parametrize("cut", [1, 9, 12, 60])
def test_a_chunk_that_is_cut_short_is_named(tmp_path, arrays, cut):
  t5x_files.write_legacy(tmp_path, arrays, chunk=9)
  chunk = _array_folder(tmp_path) / "1.0"
  chunk.write_bytes(chunk.read_bytes()[:-cut])
  with pytest.raises(ValueError, match=r"query\.kernel: chunk 1\.0 is cut"):
    t5x.open_checkpoint(tmp_path)


def test_a_damaged_chunk_is_named_when_it_is_read(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path, arrays, chunk=9)
  chunk = _array_folder(tmp_path) / "1.0"
  content = bytearray(chunk.read_bytes())
  content[len(content) // 2] ^= 8
  chunk.write_bytes(content)
  source = t5x.open_checkpoint(tmp_path)
  with pytest.raises(ValueError, match=r"query\.kernel: .*1\.0"):
    weights.load(source, source.config)


def test_a_missing_chunk_is_not_zeros(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path / "a", arrays, chunk=9)
  (_array_folder(tmp_path / "a") / "0.1").unlink()
  with pytest.raises(ValueError, match=r"query\.kernel: chunk 0\.1 is missing"):
    t5x.open_checkpoint(tmp_path / "a")
  t5x_files.write_orbax(tmp_path / "b", arrays, ocdbt=False)
  (_array_folder(tmp_path / "b" / "state") / "0.0").unlink()
  with pytest.raises(ValueError, match=r"query\.kernel: chunk 0\.0 is missing"):
    t5x.open_checkpoint(tmp_path / "b")


def test_a_missing_array_is_named(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path / "a", arrays)
  shutil.rmtree(_array_folder(tmp_path / "a"))
  with pytest.raises(ValueError, match=r"query\.kernel is missing"):
    t5x.open_checkpoint(tmp_path / "a")
  t5x_files.write_orbax(tmp_path / "b", arrays, ocdbt=False)
  shutil.rmtree(_array_folder(tmp_path / "b" / "state"))
  with pytest.raises(ValueError, match=r"query\.kernel is missing"):
    t5x.open_checkpoint(tmp_path / "b")


def test_parameters_that_are_not_in_the_tree_are_listed(tmp_path, arrays):
  partial = dict(arrays)
  for part in ("wi_0", "wo"):
    del partial[f"decoder/layers_1/mlp/{part}/kernel"]
  t5x_files.write_legacy(tmp_path, partial)
  source = t5x.open_checkpoint(tmp_path)
  with pytest.raises(ValueError) as refusal:
    weights.load(source, source.config)
  for part in ("wi_0", "wo"):
    line = f"missing: decoder/layers_1/mlp/{part}/kernel"
    assert line in str(refusal.value)


def test_a_zarray_that_is_none_is_refused(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path, arrays)
  file = _array_folder(tmp_path) / ".zarray"
  facts = json.loads(file.read_text())
  for content, message in (
    ("{", "query.kernel: "),
    (json.dumps(facts | {"dtype": "<i4"}), "is of type int32; weights are"),
    (json.dumps(facts | {"shape": [12, 15]}), r"shape is \(12, 15\)"),
  ):
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
      t5x.open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "damaged"),
    (b"\x80\x04.", "damaged"),
    (msgpack.packb({"version": 3}), "has no parameters"),
    (msgpack.packb([1, 2]), "has no parameters"),
    (
      msgpack.packb({"optimizer": {"target": {"a": {"b": 1}}}}),
      "a/b must be an array or a spec, got 1",
    ),
  ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, content, message):
  (tmp_path / "checkpoint").write_bytes(content)
  with pytest.raises(ValueError, match=message):
    t5x.open_checkpoint(tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path, arrays, inline=list(arrays)[1:])
  file = tmp_path / "checkpoint"
  content = file.read_bytes()
  for size in (1, 100, len(content) // 2, len(content) - 1):
    file.write_bytes(content[:size])
    with pytest.raises(ValueError, match="damaged"):
      t5x.open_checkpoint(tmp_path)


def test_what_a_checkpoint_does_not_tell_is_the_users_to_say(tmp_path, arrays):
  t5x_files.write_legacy(tmp_path, arrays)
  other = dataclasses.replace(
    testing.CONFIG,
    relpos_max_distance=64,
    mlp_activations=("silu", "linear"),
    layer_norm_epsilon=1e-5,
  )
  source = t5x.open_checkpoint(tmp_path)
  assert source.config == dataclasses.replace(
    testing.CONFIG, mlp_activations=("gelu", "linear")
  )
  # Unsaid, it is what the run is configured to.
  weights.load(source, other)
  said = t5x.open_checkpoint(tmp_path, relpos_max_distance=64)
  assert said.config.relpos_max_distance == 64
  with pytest.raises(ValueError, match=r"relpos_max_distance is 128.*64"):
    weights.load(said, testing.CONFIG)
