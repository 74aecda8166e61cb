"""Small runs whose tasks are text, for tests of what is made of a run later.

Two rules of the records family are stored as their seqio tasks would be. The
hypermodels learn fast and badly: all that counts is that adapters matter.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import pytest

from hyperjax import adapters, optimizers, runs, sharding
from hyperjax.data import sources, vocabularies
from hyperjax.data.store import mixtures, store
from hyperjax.evaluation import curves, few_shot
from hyperjax.loop import Periods
from hyperjax.models import hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.tasks import records

CONFIG = T5Config(
  vocab_size=96,
  emb_dim=12,
  num_heads=2,
  head_dim=8,
  mlp_dim=20,
  num_encoder_layers=1,
  num_decoder_layers=2,
)
SPECS = {
  "lora": adapters.LoraSpec(2, alpha=64.0),
  "prefix": adapters.PrefixSpec(3, key_stddev=4.0, value_stddev=1.0),
}
# One kind where they differ in nothing that a quick test is about.
KINDS = ("lora", pytest.param("prefix", marks=pytest.mark.slow))
RULES = (7, 300)
LENGTHS = {"demonstrations": 36, "inputs": 8, "targets": 6}
# Each demonstration in a row of its own.
SEPARATE = {**LENGTHS, "demonstrations": 12, "num_demonstrations": 3}
INSTRUCTION = "name then city ;"


def rows(rule: int, split: str = "train") -> list[dict[str, str]]:
  return list(records.rule_rows(rule, split))


def pairs(rule: int, count: int = 3) -> list[tuple[str, str]]:
  return [(row["inputs"], row["targets"]) for row in rows(rule)[:count]]


def questions(rule: int = RULES[0]) -> list[str]:
  return [row["inputs"] for row in rows(rule, "validation")]


def write_tasks(
  cache_dir: pathlib.Path, instruction: str = INSTRUCTION
) -> None:
  """Stores both splits of the rules, as `hyperjax cache` would."""
  own = records.vocabulary()
  vocabularies.keep_copy(own, cache_dir / store.VOCABULARIES)
  for split in ("train", "validation"):
    folders = []
    for rule in RULES:
      name = records.task_name(rule)
      folder = cache_dir / name / split
      stored = [
        {
          **{k: [*own.encode(text), own.eos_id] for k, text in row.items()},
          "record": {f"{k}_pretokenized": text for k, text in row.items()},
        }
        for row in rows(rule, split)
      ]
      info = {"task": name, "split": split, "vocabulary": own.description}
      info["instruction"] = own.encode(instruction)
      names = ("inputs", "targets")
      store.write(folder, stored, names, info, own.size, True)
      folders.append((name, 1.0, folder))
    mixtures.write_mixture(cache_dir, "rules", split, True, folders)


def _tasks(
  cache_dir: pathlib.Path, split: str = "train"
) -> mixtures.StoredTasks:
  return mixtures.StoredTasks("rules", str(cache_dir), split, keep_records=True)


def problem(
  kind: str, hyper: Mapping[str, Any] | None = None, **changes
) -> problems.HyperTuning:
  """With `hyper`, settings of its hypermodel that are not the defaults."""
  own = hypermodel.HyperT5Config(CONFIG, 16, **(hyper or {}))
  spec = changes.pop("adapters", None) or SPECS[kind]
  return problems.HyperTuning(CONFIG, own, spec, **changes)


def train(
  folder: pathlib.Path,
  cache_dir: pathlib.Path,
  kind: str,
  initial: pathlib.Path | None,
  readers: tuple[str, ...] = (),
  lengths: Mapping[str, int] = LENGTHS,
  **changes,
) -> None:
  """Trains a hypermodel, or with the kind "backbone" the T5."""
  of_text = sources.TextPairs(_tasks(cache_dir), LENGTHS)
  of_episodes = sources.FewShotEpisodes(
    _tasks(cache_dir), lengths, (1, 3), 2, instruction_readers=readers
  )
  is_backbone = kind == "backbone"
  runs.Train(
    str(folder),
    problems.LanguageModel(CONFIG) if is_backbone else problem(kind, **changes),
    of_text if is_backbone else of_episodes,
    batch_size=16,
    # At higher rates the last bits of sums decide what is answered.
    optimizer=optimizers.AdamW(optimizers.Constant(1e-3)),
    steps=6,
    initial_checkpoint=None if initial is None else str(initial),
    periods=Periods(log=6, save=6),
  ).execute()


class _TwoDevices(sharding.MeshSpec):
  """As many as there are rules."""

  def build(self, devices=None):
    return super().build(devices or jax.devices()[: len(RULES)])


def tune(
  folder: pathlib.Path,
  cache_dir: pathlib.Path,
  kind: str,
  initial: pathlib.Path,
  is_shared: bool = False,
  readers: tuple[str, ...] = (),
  **changes,
) -> None:
  """Trains an adapter for each rule, or a shared one for both."""
  rows = _tasks(cache_dir)
  data = sources.TasksSideBySide(
    rows, LENGTHS, 2, 16, num_demonstrations=3, instruction_readers=readers
  )
  held_out = _tasks(cache_dir, "validation")
  scores = curves.TaskCurves("curves", data, held_out, metrics=("equal",))
  episodes = sources.FewShotEpisodes(
    rows, LENGTHS, (1, 3), 2, instruction_readers=readers
  )
  options = {
    "batch_size": 16,
    # A prefix takes large steps, or it answers as it did at random.
    "optimizer": optimizers.AdamW(
      optimizers.Constant(1.0 if kind == "prefix" else 0.1)
    ),
    "steps": 6,
    "initial_checkpoint": str(initial),
    "mesh": _TwoDevices(),
    "periods": Periods(log=6, save=3, evaluate=None if is_shared else 3),
    "evaluations": () if is_shared else (scores,),
  }
  runs.Train(
    str(folder),
    tuned(kind, 1 if is_shared else 2),
    episodes if is_shared else data,
    **(options | changes),
  ).execute()


def tuned(kind: str, num_tasks: int = 1) -> problems.AdapterFineTuning:
  return problems.AdapterFineTuning(CONFIG, SPECS[kind], num_tasks)


def evaluate(world: pathlib.Path, kind: str) -> None:
  """Scores a hypermodel of the world."""
  score(world / kind, world / "tokens", problem(kind))


def score(
  run: pathlib.Path, cache_dir: pathlib.Path, of: problems.Problem
) -> None:
  """Scores a run as `hyperjax eval` does, from the first three rows of a rule."""
  asked = evaluation(cache_dir, feature_lengths=LENGTHS)
  runs.Evaluate(str(run), of, (asked,)).execute()


def evaluation(
  cache_dir: pathlib.Path, **changes
) -> few_shot.FewShotEvaluation:
  """Of the rules' held-out rows; lengths are the run's if none are given."""
  return few_shot.FewShotEvaluation(
    name="rules",
    targets=_tasks(cache_dir, "validation"),
    demonstrations=_tasks(cache_dir),
    num_demonstrations=3,
    in_order=True,
    rows_per_context=5,
    contexts_per_batch=8,
    controls=("right", "none"),
    metrics=("equal",),
    **changes,
  )


def make(folder: pathlib.Path) -> None:
  """A world of a backbone and a hypermodel of each kind."""
  write_tasks(folder / "tokens")
  train(folder / "backbone", folder / "tokens", "backbone", None)
  for kind in SPECS:
    train(folder / kind, folder / "tokens", kind, folder / "backbone")
