"""docs/t5x.md, word for word, with the real t5x; skipped where t5x is not."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hyperjax import adapters, batch, trees
from hyperjax.models import forward, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from tests import conftest, testing

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("t5x")

import orbax.checkpoint  # noqa: E402
import seqio  # noqa: E402

from hyperjax.data import episodes  # noqa: E402
from hyperjax.data.store import seqio_store  # noqa: E402
from hyperjax.interop import t5x_layers  # noqa: E402
from hyperjax.tasks import records  # noqa: E402

PAGE = (conftest.ROOT / "docs" / "t5x.md").read_text()
# The page's sizes.gin.
CONFIG = T5Config(
  vocab_size=128,
  emb_dim=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=64,
  num_encoder_layers=2,
  num_decoder_layers=2,
)
PROBLEM = problems.HyperTuning(
  CONFIG,
  hypermodel.HyperT5Config(CONFIG, head_hidden_dim=32),
  adapters.PrefixSpec(4),
)


def _shell(folder, script):
  """Runs lines of the page as a user would, in a folder of their own."""
  environment = os.environ | {
    "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": f"{conftest.ROOT}:{folder}",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "HYPERJAX_CACHE": str(folder / "tokens"),
  }
  done = subprocess.run(
    ["bash", "-e", "-c", script],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Where the page's commands have run, from the tiny T5 that t5x wrote."""
  folder = tmp_path_factory.mktemp("page")
  (folder / "t5").symlink_to(conftest.MODELS / "t5x_tiny" / "t5_tiny_legacy")
  section = PAGE.split("## Run it")[1].split("\n## ")[0]
  for block in re.finditer(r"```\w*\n(.*?)```", section, re.DOTALL):
    name = re.findall(r"`(\w+\.(?:py|gin))`", section[: block.start()])[-1]
    (folder / name).write_text(block[1])
  prose = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
  commands = "\n".join(re.findall(r"^ {4}(.*)$", prose, re.MULTILINE))
  assert commands.count("python -m t5x.") == 2
  _shell(folder, commands)
  variables, train, _ = re.split(
    r"(?=^python -m)", commands, flags=re.MULTILINE
  )
  longer = train.replace("TRAIN_STEPS=200", "TRAIN_STEPS=300")
  assert longer != train
  _shell(folder, variables + longer)
  return folder


def _checkpoint(folder, step):
  """A checkpoint's parameters by path, and its step."""
  path = folder / "run" / f"checkpoint_{step}" / "state"
  saved = orbax.checkpoint.PyTreeCheckpointer().restore(str(path))
  return trees.flatten(saved["target"]), int(saved["state"]["step"])


def _problem_params(flat):
  """As `PROBLEM` takes them."""
  both = t5x_layers.stack(trees.unflatten(flat))
  return {"hypermodel": both["hypermodel"]}, {"backbone": both["backbone"]}


@pytest.fixture(scope="module")
def unseen(folder):
  """The page's evaluation episodes as one batch of ours."""
  tasks = seqio_store.SeqioTasks(
    "records_unseen",
    "validation",
    (records.Records(),),
    cache_dir=str(folder / "tokens"),
  ).open()
  lengths = batch.Lengths(inputs=8, targets=8, demonstrations=64)
  source = episodes.Episodes(tasks, episodes.FewShot((4, 4)), lengths)
  return batch.assemble([source[i] for i in range(64)], lengths)


def test_the_backbone_is_the_checkpoints_and_stays_it(folder):
  arrays = np.load(conftest.MODELS / "t5x_tiny" / "t5_tiny_params.npz")
  for step in (0, 200, 300):
    params, counted = _checkpoint(folder, step)
    assert counted == step
    for name in arrays.files:
      np.testing.assert_array_equal(params[f"backbone/{name}"], arrays[name])
  fresh, _ = _checkpoint(folder, 0)
  trained, _ = _checkpoint(folder, 200)
  again, _ = _checkpoint(folder, 300)
  for name, value in fresh.items():
    own = name.removeprefix("hypermodel/")
    if own in arrays and name != own:
      np.testing.assert_array_equal(value, arrays[own])
  name = "hypermodel/head/hidden/kernel"
  assert np.any(fresh[name] != trained[name])
  assert np.any(trained[name] != again[name])


def test_the_loss_falls(folder, unseen):
  def loss(step):
    flat, _ = _checkpoint(folder, step)
    total, weight, _ = jax.jit(
      lambda params, frozen: PROBLEM.loss(params, frozen, unseen, None)
    )(*_problem_params(flat))
    return total / weight

  assert loss(200) < 0.9 * loss(0)


def test_inferred_answers_are_our_predictions(folder, unseen):
  vocabulary = seqio.SentencePieceVocabulary(str(records.VOCABULARY), 0)
  params, frozen = _problem_params(_checkpoint(folder, 200)[0])
  decode = jax.jit(
    functools.partial(
      forward.decode,
      PROBLEM.backbone,
      max_length=unseen.decoder_target_tokens.shape[1],
      num_tokens=vocabulary.vocab_size,
    )
  )
  answers = {}
  for use_adapters in (True, False):
    given = testing.alone(params, frozen, unseen)
    if use_adapters:
      given = testing.setting(PROBLEM, params, frozen, unseen)
    decoded = decode(given)
    answers[use_adapters] = [
      vocabulary.decode(row.tolist()) for row in np.asarray(decoded.tokens)
    ]
  path = folder / "predictions" / "unseen-predict.jsonl-00000-of-00001"
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line["prediction"] for line in lines] == answers[True]
  # Not the same for all, nor what the backbone says by itself.
  assert len(set(answers[True])) > 1 and answers[True] != answers[False]


def test_evaluation_during_training_scores_every_episode(folder):
  evaluated = folder / "run" / "inference_eval"
  lines = (evaluated / "unseen-metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [100, 200, 300]
  assert all(0 <= json.loads(line)["exactly_right"] <= 100 for line in lines)
  answers = (evaluated / "unseen-000200.jsonl").read_text().splitlines()
  assert len(answers) == 64
