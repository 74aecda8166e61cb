"""Files as this version writes them: stores, runs, adapters, and what they answer.

The files of a version, `0.1.0.tar.xz`, are made once, before its release:

```
tokens/      two tasks of the records family, both splits, and their mixtures
parts/       a store of two parts
t5/          a run that pretrained a T5
prefix/ lora/ ia3/    runs that trained a hypermodel for it; `lora` encodes each
             demonstration by itself and `ia3` reads an instruction
tasks/       a run that trained an adapter for each task, side by side
adapters/    what each of these wrote, with what updates of `lora`'s need
```

and `0.1.0.json` has what all of them answer.


The last checkpoint of a run was taken away, as if it had been killed: what is in
`metrics.jsonl` after the one before is what a restart must come to.
"""

import hashlib
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from hyperjax import (
  adapters,
  checkpoints,
  optimizers,
  runs,
  serving,
  sharding,
)
from hyperjax.artifacts import adapters_of_run
from hyperjax.data import sources
from hyperjax.data.store import mixtures, store
from hyperjax.evaluation import few_shot, questions
from hyperjax.loop import Periods
from hyperjax.models import decoding, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import answering_t5
from hyperjax.tasks import records
from hyperjax.trainer import Trainer
from tests import served_example

CONFIG = T5Config(
  vocab_size=96,
  emb_dim=8,
  num_heads=4,
  head_dim=2,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout_rate=0.1,
)
SPECS = {
  "prefix": adapters.PrefixSpec(2, key_stddev=4.0, value_stddev=1.0),
  "lora": adapters.LoraSpec(2, alpha=64.0),
  "ia3": adapters.Ia3Spec(2),
}
RATES = {"t5": 3e-2, "prefix": 1e-2, "lora": 3e-2, "ia3": 3e-2, "tasks": 0.3}
# Not those of other tests: they must stay what they were.
RULES = (7, 300)
LENGTHS = {"demonstrations": 36, "inputs": 8, "targets": 6}
SEPARATE = {**LENGTHS, "demonstrations": 12, "num_demonstrations": 3}
INSTRUCTION = "name then city ;"
# What a restart begins from, and what it must come to: step 40 is in no line yet.
SAVED, STEPS = 40, 42
PERIODS = Periods(log=3, save=SAVED)
NAMES = ("inputs", "targets")


def make(folder: pathlib.Path) -> dict[str, Any]:
  """Writes all of them to an empty folder, in some minutes; what they answer."""
  train(folder)
  return ask(folder)


def train(folder: pathlib.Path) -> None:
  """Stores and runs."""
  served_example.write_tasks(folder / "tokens", INSTRUCTION)
  make_parts(folder / "parts")
  for name in RATES:
    run(folder, name).execute()
    shutil.rmtree(folder / name / "checkpoints" / str(STEPS))
    for path in folder.glob(f"{name}/events.out.tfevents.*"):
      path.unlink()
    (folder / name / "timings.jsonl").unlink()


def ask(folder: pathlib.Path) -> dict[str, Any]:
  """Adapters of the runs; what is asked of all."""
  expected = {
    "evaluation": evaluation_draws(folder / "tokens"),
    "checkpoints": {name: saved(folder, name) for name in RATES},
  }
  for name, own in written(folder).items():
    own.save(folder / "adapters" / name)
    of_model = model(folder, name if name in SPECS else "prefix")
    answers = answered(of_model, own)
    expected[name] = {"identity": own.identity, **answers}
  expected["none"] = answered(model(folder, "prefix"), None)
  return expected


def tasks_of(cache_dir: pathlib.Path, split: str) -> mixtures.StoredTasks:
  return mixtures.StoredTasks("rules", str(cache_dir), split, keep_records=True)


def rows(rule: int, split: str) -> list[dict[str, str]]:
  """Inputs and targets of a rule, as text."""
  return list(records.rule_rows(rule, split))


def make_parts(folder: pathlib.Path) -> None:
  """Rows 0 to 4 and 5 to 9 of a store, in parts."""
  for part, first in (("a", 0), ("b", 5)):
    info = {"task": "parts", "split": "train", "vocabulary": None}
    store.write(
      folder / part, part_rows()[first : first + 5], NAMES, info, 300, True
    )
  info = {"task": "parts", "split": "train", "vocabulary": None}
  store.write_joined(folder / "joined", [folder / "a", folder / "b"], info)


def part_rows() -> list[dict[str, Any]]:
  """What is in them; row 7 has the input of row 2."""
  texts = [2 if i == 7 else i for i in range(10)]
  return [
    {
      "inputs": [10 + text] * (1 + text % 3) + [1],
      "targets": [100 + i, 1],
      "record": {"number": i, "text": f"row {i} \u2581"},
    }
    for i, text in enumerate(texts)
  ]


def evaluation_draws(cache_dir: pathlib.Path) -> Any:
  """Which rows are asked together, and which demonstrations they get."""
  asked = few_shot.FewShotEvaluation(
    name="rules",
    targets=tasks_of(cache_dir, "validation"),
    demonstrations=tasks_of(cache_dir, "train"),
    feature_lengths=LENGTHS,
    num_demonstrations=3,
    rows_per_context=5,
    contexts_per_batch=8,
    instruction_readers=(),
    metrics=("equal",),
    draws=2,
  )
  found = questions.Questions(asked, _problem("prefix"))
  return {
    "units": [
      [unit.task, unit.other, unit.draw, unit.rows.tolist()]
      for unit in found.units
    ],
    "demonstrations": [
      [*key, np.asarray(rows).tolist()]
      for key, rows in found.demonstrations.items()
    ],
  }


def saved(folder: pathlib.Path, name: str) -> Any:
  """Where a checkpoint stands, and a hash of its arrays, restored strictly."""
  of_run = run(folder, name)
  trainer = Trainer(of_run.problem, of_run.optimizer, of_run.mesh.build())
  saver = checkpoints.Checkpoints(folder / name / "checkpoints", read_only=True)
  state = saver.restore(SAVED, trainer.abstract, {})
  facts = saver.facts(SAVED)
  saver.close()
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    {"params": state.params, "opt_state": state.opt_state}
  )
  digest = hashlib.sha256()
  for path, leaf in leaves:
    digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} ".encode())
    digest.update(np.asarray(leaf).tobytes())
  return {
    "step": int(state.step),
    "position": facts.position,
    "pending": sorted(facts.pending),
    "key": checkpoints.key_data(state.key),
    "arrays": digest.hexdigest(),
  }


def run(
  folder: pathlib.Path, name: str, backbone: pathlib.Path | None = None
) -> runs.Train:
  """A run of the folder; `backbone` is where its T5 lies now."""
  initial = None if name == "t5" else str(folder / "t5")
  return runs.Train(
    str(folder / name),
    _problem(name),
    _data(folder / "tokens", name),
    batch_size=16,
    optimizer=optimizers.AdamW(
      optimizers.LinearDecay(RATES[name], 100, warmup_steps=4)
    ),
    steps=STEPS,
    initial_checkpoint=initial,
    backbone=None if backbone is None else str(backbone),
    # Eight devices: as many contexts as there are data-parallel ones.
    mesh=sharding.MeshSpec({"tensor": 4 if name == "tasks" else 1}),
    periods=PERIODS,
  )


def _problem(name: str) -> problems.Problem:
  if name == "t5":
    return problems.LanguageModel(CONFIG)
  if name == "tasks":
    return problems.AdapterFineTuning(CONFIG, SPECS["prefix"], 2)
  hyper = hypermodel.HyperT5Config(CONFIG, head_hidden_dim=8)
  return problems.HyperTuning(CONFIG, hyper, SPECS[name])


def _data(cache_dir: pathlib.Path, name: str) -> sources.Data:
  tasks = tasks_of(cache_dir, "train")
  if name == "t5":
    return sources.TextPairs(tasks, LENGTHS)
  if name == "tasks":
    return sources.TasksSideBySide(tasks, LENGTHS, 2, 16)
  lengths = SEPARATE if name == "lora" else LENGTHS
  readers = ("hypermodel",) if name == "ia3" else ()
  return sources.FewShotEpisodes(
    tasks, lengths, (1, 3), 2, instruction_readers=readers
  )


def model(folder: pathlib.Path, name: str) -> serving.Model:
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  return serving.load(
    str(folder / name), backbone=str(folder / "t5"), layout=layout
  )


def written(folder: pathlib.Path) -> dict[str, Any]:
  """Adapters of three examples of a rule, and those that were trained."""
  tasks = adapters_of_run.TrainedAdapters(str(folder / "tasks"))
  return {name: write(model(folder, name)) for name in SPECS} | {
    "tasks": tasks.read(tasks.chosen())[0]
  }


def write(of_model: serving.Model) -> Any:
  instruction = None
  if of_model.run.instruction_readers:
    instruction = INSTRUCTION
  shown = [tuple(row.values()) for row in rows(RULES[0], "train")[:3]]
  keeps = of_model.lengths.are_separate
  return of_model.adapt(shown, instruction, keep_encoded=keeps)


def answered(of_model: answering_t5.AnsweringT5, adapter: Any) -> Any:
  own = rows(RULES[0], "validation")[:4]
  asked = [row["inputs"] for row in own]
  targets = [[of_model.encode(row["targets"])] for row in own]
  found = of_model.answer(asked, [adapter])
  options = answering_t5.Options(decoding.Beam(2))
  return {
    "greedy": found.tokens,
    "texts": found.texts,
    "beams": of_model.answer(asked, [adapter], options).tokens,
    "log_likelihoods": of_model.score(asked, [adapter], targets),
  }
