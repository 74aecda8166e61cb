"""Peak memory of `hyperjax import`: python -m benchmarks.import_memory.

A synthetic T5 of some hundred megabytes in every format that is read; each is
imported in a fresh process. Its peak (VmHWM) less that of importing a tiny T5
in the same format is what the arrays took; it should be a small multiple of the
largest one, whatever the model's size.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import measuring
from hyperjax.interop import hf_write, weights
from hyperjax.models.t5_layers import T5Config

_MIB = 2**20

CONFIG = T5Config(
  vocab_size=32128,
  emb_dim=512,
  num_heads=8,
  head_dim=64,
  mlp_dim=4096,
  num_encoder_layers=5,
  num_decoder_layers=5,
)
TINY = T5Config(
  vocab_size=100,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
)

_PROGRAM = """
import pathlib, sys
from hyperjax import main
status = main.main(["import", "--from", sys.argv[1], "--to", sys.argv[2]])
assert status == 0
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def arrays_of(config: T5Config) -> dict[str, np.ndarray]:
  """Random arrays by t5x's names; bfloat16's precision, so that gzip helps."""
  generator = np.random.default_rng(0)
  found = {}
  for path, shape in weights.parameter_shapes(config).items():
    is_stacked = "/layers/" in path
    for i in range(shape[0] if is_stacked else 1):
      name = path.replace("/layers/", f"/layers_{i}/")
      own = shape[1:] if is_stacked else shape
      array = generator.standard_normal(own, np.float32)
      found[name] = (array.view(np.uint32) & 0xFFFF0000).view(np.float32)
  return found


def _write_legacy(
  folder: pathlib.Path, config: T5Config, chunk_rows: int | None = None
) -> None:
  import tensorstore
  from flax import serialization

  from hyperjax import trees

  target = {}
  for name, array in arrays_of(config).items():
    rows = min(array.shape[0], chunk_rows or array.shape[0])
    metadata = {
      "shape": list(array.shape),
      "chunks": [rows, *array.shape[1:]],
      "compressor": {"id": "gzip", "level": 1},
    }
    own = f"target.{name.replace('/', '.')}/"
    opened = tensorstore.open(
      {"driver": "zarr", "metadata": metadata, "dtype": "float32"},
      kvstore=tensorstore.KvStore.open(f"file://{folder}/{own}").result(),
      create=True,
    ).result()
    opened.write(array).result()
    kvstore = {"driver": "gcs", "bucket": "t5x-dummy-bucket", "path": own}
    target[name] = {
      "driver": "zarr",
      "dtype": "float32",
      "kvstore": kvstore,
      "metadata": metadata,
    }
  tree = {"version": 3, "optimizer": {"target": trees.unflatten(target)}}
  content = serialization.msgpack_serialize(tree)
  (folder / "checkpoint").write_bytes(content)


def _write_orbax(folder: pathlib.Path, config: T5Config) -> None:
  from orbax import checkpoint as ocp

  from hyperjax import trees

  folder.mkdir()
  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True))
  tree = {"target": trees.unflatten(arrays_of(config))}
  checkpointer.save(folder / "state", args=ocp.args.PyTreeSave(tree))
  checkpointer.close()


def _write_hf(folder: pathlib.Path, config: T5Config) -> None:
  arrays = arrays_of(config)
  shapes = {name: array.shape for name, array in arrays.items()}
  source = weights.T5Source("memory", config, shapes, arrays.__getitem__)
  hf_write.write_folder(folder, source, shard_bytes=128 * _MIB)


def _write_flax(folder: pathlib.Path, config: T5Config) -> None:
  """The layout of transformers' flax models, from its safetensors names."""
  from flax import serialization

  from hyperjax import trees
  from hyperjax.interop import hf, hf_arrays

  _write_hf(folder, config)
  opened = hf_arrays.open_arrays(folder)
  flat = {}
  for name in opened.names:
    stem = name.removesuffix(".weight").replace(".", "/")
    array = opened.read(name)
    if stem == "shared" or stem.endswith("relative_attention_bias"):
      flat[f"{stem}/embedding"] = array
    elif stem.endswith("layer_norm"):
      flat[f"{stem}/weight"] = array
    else:
      flat[f"{stem}/kernel"] = np.ascontiguousarray(array.T)
  content = serialization.msgpack_serialize(trees.unflatten(flat))
  (folder / "flax_model.msgpack").write_bytes(content)
  for file in folder.iterdir():
    if file.name not in (hf.CONFIG, "flax_model.msgpack"):
      file.unlink()


def _write_legacy_chunked(folder: pathlib.Path, config: T5Config) -> None:
  _write_legacy(folder, config, 1000)


FORMATS: dict[str, Callable[[pathlib.Path, T5Config], None]] = {
  "t5x, one chunk an array": _write_legacy,
  "t5x, several chunks": _write_legacy_chunked,
  "t5x, orbax": _write_orbax,
  "safetensors, shards": _write_hf,
  "flax msgpack": _write_flax,
}


def measured(source: pathlib.Path, target: pathlib.Path) -> tuple[float, float]:
  """Peak MiB and seconds of an import in a process of its own."""
  start = time.perf_counter()
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM, str(source), str(target)],
    check=True,
    capture_output=True,
    text=True,
  )
  seconds = time.perf_counter() - start
  return int(done.stdout.split()[-1]) / 1024, seconds


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--format", choices=[*FORMATS], help="only this one")
  chosen = parser.parse_args().format
  arrays = arrays_of(CONFIG)
  total = sum(array.nbytes for array in arrays.values()) / _MIB
  largest = max(array.nbytes for array in arrays.values()) / _MIB
  del arrays
  print(measuring.machine())
  print(f"all arrays {total:.0f} MiB, the largest {largest:.0f} MiB\n")
  print("| format | seconds | peak | of a tiny T5 | arrays | / largest |")
  print("|---|---|---|---|---|---|")
  for name, write in FORMATS.items():
    if chosen not in (None, name):
      continue
    with tempfile.TemporaryDirectory() as folder:
      peaks, seconds = [], 0.0
      for size, config in (("tiny", TINY), ("whole", CONFIG)):
        source = pathlib.Path(folder, size)
        write(source, config)
        peak, seconds = measured(source, pathlib.Path(folder, f"{size}-out"))
        peaks.append(peak)
      taken = peaks[1] - peaks[0]
      print(
        f"| {name} | {seconds:.1f} | {peaks[1]:.0f} | {peaks[0]:.0f} "
        f"| {taken:.0f} | {taken / largest:.1f} |",
        flush=True,
      )


if __name__ == "__main__":
  main()
