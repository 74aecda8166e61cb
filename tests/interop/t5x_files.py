"""Checkpoints in t5x's formats, written for tests."""

import functools

import numpy as np
import tensorstore
from flax import serialization
from orbax import checkpoint as ocp

from hyperjax import trees
from hyperjax.interop import weights
from tests import testing


def arrays_of(config=testing.CONFIG, seed=0, dtype=np.float32):
  """A random T5's arrays by t5x's names."""
  draw = np.random.default_rng(seed).standard_normal
  return {
    # Small enough that no softmax is all or nothing.
    name: (0.3 * draw(shape, np.float32)).astype(dtype)
    for name, shape in _shapes(config).items()
  }


@functools.cache
def _shapes(config):
  found = {}
  for path, shape in weights.parameter_shapes(config).items():
    if "/layers/" not in path:
      found[path] = shape
      continue
    for i in range(shape[0]):
      found[path.replace("/layers/", f"/layers_{i}/")] = shape[1:]
  return found


def source_of(config=testing.CONFIG, **options):
  """The same T5 as a source."""
  arrays = arrays_of(config, **options)
  shapes = {name: array.shape for name, array in arrays.items()}
  return weights.T5Source("memory", config, shapes, arrays.__getitem__)


def scanned(arrays, layers):
  """The same arrays with the layers of a stack in one, as t5x scans them."""
  found = {name: a for name, a in arrays.items() if "/layers_" not in name}
  for stack, count in layers.items():
    prefix = f"{stack}/layers_0/"
    for name in arrays:
      if name.startswith(prefix):
        rest = name.removeprefix(prefix)
        parts = [arrays[f"{stack}/layers_{i}/{rest}"] for i in range(count)]
        found[f"{stack}/{stack}/{rest}"] = np.stack(parts, axis=1)
  return found


def with_layer_biases(arrays, config):
  """The bias of a stack copied to each layer."""
  found = dict(arrays)
  depths = (config.num_encoder_layers, config.num_decoder_layers)
  for stack, count in zip(("encoder", "decoder"), depths, strict=True):
    bias = found.pop(f"{stack}/relpos_bias/rel_embedding")
    for i in range(count):
      found[f"{stack}/layers_{i}/relpos_bias/rel_embedding"] = bias.copy()
  return found


def write_legacy(
  store,
  arrays,
  *,
  chunk=None,
  driver="file",
  inline=(),
  change=lambda name, spec: spec,
):
  """Writes a legacy checkpoint.

  Args:
    store: a `tensorstore.KvStore`, or a folder.
    arrays: by name.
    chunk: rows and columns of a chunk at most.
    driver: what its specs say of where it was written.
    inline: names of arrays put into the file.
    change: alters a spec.
  """
  if not isinstance(store, tensorstore.KvStore):
    store = tensorstore.KvStore.open(
      {"driver": "file", "path": f"{store}/"}
    ).result()
  target = {}
  for name, array in arrays.items():
    if name in inline:
      target[name] = array
      continue
    folder = f"target.{name.replace('/', '.')}"
    metadata = write_zarr(store / f"{folder}/", array, chunk)
    kvstore = {"driver": driver, "path": f"{folder}/"}
    if driver == "gcs":
      kvstore["bucket"] = "t5x-dummy-bucket"
    spec = {
      "driver": "zarr",
      "dtype": array.dtype.name,
      "kvstore": kvstore,
      "metadata": {
        key: metadata[key] for key in ("chunks", "compressor", "shape")
      },
    }
    target[name] = change(name, spec)
  # What training needs and importing does not: one of the slots is nowhere.
  state = {"step": 3, "param_states": {"v": np.zeros(1, np.float32)}}
  state["param_states"]["m"] = {
    "driver": "zarr",
    "kvstore": {"driver": "file", "path": "state.param_states.m/"},
  }
  tree = {
    "version": 3,
    "optimizer": {"target": trees.unflatten(target), "state": state},
  }
  store["checkpoint"] = serialization.msgpack_serialize(tree)


def write_zarr(store, array, chunk=None):
  """Writes an array as t5x does; returns its metadata."""
  chunks = [min(size, chunk or size) for size in array.shape]
  compressor = {"id": "gzip", "level": 1}
  opened = tensorstore.open(
    {
      "driver": "zarr",
      "metadata": {
        "shape": list(array.shape),
        "chunks": chunks,
        "compressor": compressor,
      },
      "dtype": array.dtype.name,
    },
    kvstore=store,
    create=True,
  ).result()
  opened.write(array).result()
  return opened.spec().to_json()["metadata"]


def write_orbax(folder, arrays, *, ocdbt, zarr3=False):
  """Writes checkpoint_<step>/state/ as orbax does, in one of its layouts."""
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
  tree = {"state": {"step": 3}, "target": trees.unflatten(arrays)}
  folder.mkdir(parents=True)
  checkpointer = ocp.Checkpointer(handler)
  checkpointer.save(folder / "state", args=ocp.args.PyTreeSave(tree))
  checkpointer.close()
