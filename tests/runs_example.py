"""A small run over stored tokens, for tests of what a run promises.

The tasks copy an input's last word, a number of times that the task decides.
"""

import pathlib

import numpy as np

from hyperjax import adapters, optimizers, runs, sharding
from hyperjax.data import sources
from hyperjax.data.sources import Data
from hyperjax.data.store import mixtures, store
from hyperjax.evaluation import curves
from hyperjax.loop import Periods
from hyperjax.models import hypermodel, problems
from hyperjax.models.t5_layers import T5Config

CONFIG = T5Config(
  vocab_size=32,
  emb_dim=8,
  num_heads=4,
  head_dim=2,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout_rate=0.1,
)
MIXTURE = "copies"
LENGTHS = {"demonstrations": 24, "inputs": 6, "targets": 6}

GIN = """
from __gin__ import dynamic_registration
from hyperjax import adapters
from hyperjax import loop
from hyperjax import optimizers
from hyperjax.data import sources
from hyperjax.data.store import mixtures
from hyperjax.models import hypermodel
from hyperjax.models import t5_layers

include "adapters/prefix.gin"
include "stages/hypertuning.gin"

DATA = @sources.FewShotEpisodes()
TRAIN_STEPS = 200
BATCH_SIZE = 16
DROPOUT_RATE = 0.1
sources.FewShotEpisodes.tasks = @mixtures.StoredTasks()
sources.FewShotEpisodes.feature_lengths = {
    "demonstrations": 24, "inputs": 6, "targets": 6}
sources.FewShotEpisodes.num_demonstrations = (1, 3)
sources.FewShotEpisodes.num_targets = 2
mixtures.StoredTasks.mixture_or_task = "copies"
adapters.PrefixSpec.length = 2
optimizers.LinearDecay.peak = 1e-3
loop.Periods.log = 10
loop.Periods.save = 25
hypermodel.HyperT5Config.head_hidden_dim = 8
t5_layers.T5Config.vocab_size = 32
t5_layers.T5Config.emb_dim = 8
t5_layers.T5Config.num_heads = 4
t5_layers.T5Config.head_dim = 2
t5_layers.T5Config.mlp_dim = 16
t5_layers.T5Config.num_encoder_layers = 1
t5_layers.T5Config.num_decoder_layers = 1
"""


def write_tasks(
  cache_dir: pathlib.Path,
  split: str = "train",
  num_rows: int = 40,
  records: bool = False,
) -> None:
  """Stores two tasks and their mixture."""
  generator = np.random.default_rng(0 if split == "train" else 1)
  folders = []
  for times in (1, 3):
    rows = []
    for _ in range(num_rows):
      words = generator.integers(3, 32, 4).tolist()
      rows.append({"inputs": [*words, 1], "targets": [*words[-1:] * times, 1]})
    name = f"copy_{times}"
    folder = cache_dir / name / split
    info = {"task": name, "split": split, "vocabulary": None}
    store.write(folder, rows, ("inputs", "targets"), info, 32, records)
    folders.append((name, 1.0, folder))
  mixtures.write_mixture(cache_dir, MIXTURE, split, records, folders)


def backbone(cache_dir: pathlib.Path, folder: pathlib.Path, **changes):
  """A run that pretrains the T5."""
  tasks = mixtures.StoredTasks(MIXTURE, str(cache_dir))
  return _train(
    folder,
    problems.LanguageModel(CONFIG),
    sources.TextPairs(tasks, LENGTHS),
    initial_checkpoint=None,
    **changes,
  )


def multitask(
  cache_dir: pathlib.Path,
  folder: pathlib.Path,
  initial: pathlib.Path | None,
  spec: adapters.Spec | None = None,
  **changes,
):
  """A run that trains a hypermodel for that T5."""
  tasks = mixtures.StoredTasks(MIXTURE, str(cache_dir))
  problem = problems.HyperTuning(
    CONFIG,
    hypermodel.HyperT5Config(CONFIG, 8),
    spec or adapters.PrefixSpec(2),
  )
  return _train(
    folder,
    problem,
    sources.FewShotEpisodes(tasks, LENGTHS, (1, 3), 2),
    initial_checkpoint=None if initial is None else str(initial),
    **changes,
  )


def full(
  cache_dir: pathlib.Path,
  folder: pathlib.Path,
  initial: pathlib.Path,
  reads_demonstrations: bool = False,
  **changes,
):
  """A run that trains all of that T5 on the same episodes."""
  problem = problems.FullFineTuning(CONFIG, reads_demonstrations)
  return _baseline(cache_dir, folder, initial, problem, **changes)


def shared(
  cache_dir: pathlib.Path,
  folder: pathlib.Path,
  initial: pathlib.Path,
  spec: adapters.Spec | None = None,
  **changes,
):
  """A run that trains one adapter of that T5 on the same episodes."""
  problem = problems.AdapterFineTuning(CONFIG, spec or adapters.PrefixSpec(2))
  return _baseline(cache_dir, folder, initial, problem, **changes)


def side_by_side(
  cache_dir: pathlib.Path,
  folder: pathlib.Path,
  initial: pathlib.Path,
  spec: adapters.Spec | None = None,
  **changes,
):
  """A run that trains an adapter for each of the tasks, on two devices."""
  data = sources.TasksSideBySide(
    mixtures.StoredTasks(MIXTURE, str(cache_dir)), LENGTHS, 2, 8
  )
  held_out = mixtures.StoredTasks(MIXTURE, str(cache_dir), "held_out")
  options = {
    "initial_checkpoint": str(initial),
    "batch_size": 8,
    "mesh": sharding.MeshSpec({"tensor": 4}),
    "evaluations": (curves.TaskCurves("curves", data, held_out),),
    "periods": Periods(log=2, save=2, evaluate=2),
  }
  return _train(
    folder,
    problems.AdapterFineTuning(CONFIG, spec or adapters.PrefixSpec(2), 2),
    data,
    **(options | changes),
  )


def _baseline(cache_dir, folder, initial, problem, **changes):
  tasks = mixtures.StoredTasks(MIXTURE, str(cache_dir))
  return _train(
    folder,
    problem,
    sources.FewShotEpisodes(tasks, LENGTHS, (1, 3), 2),
    initial_checkpoint=str(initial),
    **changes,
  )


def _train(
  folder: pathlib.Path, problem: problems.Problem, data: Data, **changes
) -> runs.Train:
  options = {
    "batch_size": 16,
    "optimizer": optimizers.AdamW(optimizers.Constant(1e-3)),
    "steps": 4,
    "periods": Periods(log=2, save=2),
  }
  return runs.Train(str(folder), problem, data, **(options | changes))
