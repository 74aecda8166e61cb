"""The core stands alone: without seqio, TensorFlow and gin."""

import subprocess
import sys

import pytest

from tests import conftest

# What a machine without them looks like, to imports and to whoever asks first.
BLOCK = """
import sys
for name in ("seqio", "tensorflow", "tensorflow_text", "gin"):
  sys.modules[name] = None
"""

TRAIN = """
import pathlib, sys

import hyperjax
from hyperjax import (
  adapter_folder, adapters, adapters_out, batch, checkpoints, checks, combining,
  convert, described, drift, encodings, flops, initial, initial_adapters, loop,
  metrics, objectives, optimizers, origins, predicting, runs, serving, serving_t5,
  sharding, t5_folder, train_state, trained, trained_adapters, trainer, trees,
  updating, writing,
)
from hyperjax.commands import adapt, adapter, export, predict, report, update
from hyperjax.data import (
  claims, episodes, examples, feed, files, growing, inputs, instructions,
  joining, making, order, pairs, row_arrays, row_writer, seqio_rows,
  seqio_store, show, sources, store, text, tokenising, vocabulary, worker,
)
from hyperjax.evaluation import (
  columns, cost, expectations, few_shot, loss, predict, report, score, timing,
)
from hyperjax.interop import (
  hf, hf_flax, hf_shards, hf_write, logits, lora, msgpack_file, peft, sources,
  stores, t5x, t5x_layers, t5x_tree, verify, weights,
)
from hyperjax.models import (
  decoding, heads, hypermodel, problems, t5, t5_layers, t5_stacks,
)
from hyperjax.page import content, render
from hyperjax.tasks import c4, records, superni
from tests import runs_example, testing

# A step on a synthetic batch.
problem = testing.hypertuning(adapters.PrefixSpec(2))
of_trainer = testing.make_trainer(problem)
state = of_trainer.init(0)
state, metrics_ = of_trainer.train_step(state, of_trainer.place(testing.batch(4)))
total, weight = metrics_["loss"]
assert int(state.step) == 1 and 0 < float(total / weight) < 50

# A run on stored tokens.
folder = pathlib.Path(sys.argv[1])
runs_example.write_tasks(folder / "tokens")
run = runs_example.multitask(folder / "tokens", folder / "run", None, steps=1)
run.execute()
assert metrics.read(folder / "run" / metrics.METRICS)[0]["step"] == 1
assert not any(sys.modules.get(name) for name in ("seqio", "tensorflow", "gin"))
"""


@pytest.mark.slow
def test_the_core_imports_and_trains_with_seqio_tensorflow_and_gin_blocked(
  tmp_path,
):
  subprocess.run(
    [sys.executable, "-c", BLOCK + TRAIN, str(tmp_path)],
    check=True,
    cwd=conftest.ROOT,
  )


def test_importing_the_package_imports_nothing_heavy():
  program = """
import sys
import hyperjax
assert hyperjax.__version__
for name in ("jax", "numpy", "gin", "seqio", "tensorflow", "flax"):
  assert name not in sys.modules, name
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)
