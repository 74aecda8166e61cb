"""Adapters that leave the run that trained them: the same arrays and answers."""

import json

import jax
import numpy as np
import pytest

from hyperjax import adapters, main, optimizers, serving
from hyperjax.artifacts import adapter_folder, adapters_of_run, restore
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.batch import trim
from hyperjax.data import instructions, sources, vocabularies
from hyperjax.evaluation import curves
from hyperjax.serving import backbone
from hyperjax.serving.answering_t5 import AnsweringT5
from tests import served_example

pytestmark = pytest.mark.slow

KINDS = list(served_example.SPECS)
TASKS = ["records_rule_007", "records_rule_300"]
ASKED = served_example.questions()


def _run(*given):
  return main.main([str(x) for x in given])


def _refusal(capsys, *given):
  capsys.readouterr()
  assert _run(*given) == 1
  shown = capsys.readouterr().err.strip()
  assert len(shown.splitlines()) == 1, shown
  return shown


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _leaves_differ(one, other):
  return any(
    np.any(x != y)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  )


@pytest.fixture(scope="module")
def runs(served, tmp_path_factory):
  """A shared adapter and one for each task, of each kind.

  The latter begin as a hypermodel writes them; LoRA with an instruction that
  the T5 reads.
  """
  folder = tmp_path_factory.mktemp("runs")
  for kind in KINDS:
    readers = (instructions.BACKBONE,) if kind == "lora" else ()
    start = (served / "tokens", kind)
    served_example.tune(
      folder / f"shared_{kind}", *start, served / "backbone", is_shared=True
    )
    served_example.tune(
      folder / f"tasks_{kind}", *start, served / kind, readers=readers
    )
  return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_adapter_answers_as_its_run_was_scored(
  served, runs, tmp_path, kind
):
  run = runs / f"shared_{kind}"
  served_example.score(run, served / "tokens", served_example.tuned(kind))
  answers = _rows(run / "inference_eval" / "rules-predictions.jsonl")
  assert _run("adapter", "save", run, "--out", tmp_path / "a") == 0
  adapter = adapter_folder.read(tmp_path / "a")
  model = AnsweringT5(backbone.load(str(run)))
  asked = [row["input"] for row in answers]
  for control, given in (("right", adapter), ("none", None)):
    wanted = [row["predictions"][control] for row in answers]
    assert model.predict(asked, given) == wanted, control
  # What the adapter changes shows, or the above would say nothing.
  assert any(
    row["predictions"]["right"] != row["predictions"]["none"] for row in answers
  )


def _mean_loss(model, adapter, rule):
  """Of a target token of a rule's held-out rows, as `curves.LOSS`."""
  rows = served_example.rows(rule, "validation")
  # A longer target is cut, as in training; its end stays.
  room, end = served_example.LENGTHS["targets"], model.vocabulary.eos_id
  whole = [np.asarray(model.encode(row["targets"])) for row in rows]
  targets = [trim(ids, room, end).tolist() for ids in whole]
  scores = model.score(
    [row["inputs"] for row in rows], [adapter], [[ids] for ids in targets]
  )
  return -np.sum(scores) / sum(map(len, targets))


@pytest.mark.parametrize("kind", KINDS)
def test_each_tasks_adapter_has_the_loss_that_its_run_measured(
  runs, tmp_path, kind
):
  run = runs / f"tasks_{kind}"
  assert _run("adapter", "save", run, "--out", tmp_path / "all") == 0
  assert sorted(x.name for x in (tmp_path / "all").iterdir()) == TASKS
  model, found = (
    AnsweringT5(backbone.load(str(run))),
    curves.read(run, "curves"),
  )
  both = [adapter_folder.read(tmp_path / "all" / task) for task in TASKS]
  for task, rule, own, other in zip(
    TASKS, served_example.RULES, both, both[::-1], strict=True
  ):
    assert found[task].steps == [0, 3, 6]
    wanted = found[task].values[-1]
    assert _mean_loss(model, own, rule) == pytest.approx(wanted, rel=1e-4)
    assert _mean_loss(model, other, rule) != pytest.approx(wanted, rel=1e-3)


def test_an_earlier_step_of_one_task_is_the_folder_itself(runs, tmp_path):
  run, out = runs / "tasks_prefix", tmp_path / "a"
  given = ("--task", TASKS[1], "--step", 3, "--out", out)
  assert _run("adapter", "save", run, *given) == 0
  model, found = (
    AnsweringT5(backbone.load(str(run))),
    curves.read(run, "curves")[TASKS[1]],
  )
  loss = _mean_loss(model, adapter_folder.read(out), served_example.RULES[1])
  assert loss == pytest.approx(found.values[1], rel=1e-4)
  assert found.values[1] != pytest.approx(found.values[2], rel=1e-3)


def test_a_folder_says_what_it_was_made_from(served, runs, tmp_path, capsys):
  out = tmp_path / "a"
  run = runs / "tasks_lora"
  assert not _run("adapter", "save", run, "--task", TASKS[0], "--out", out)
  capsys.readouterr()
  assert not _run("adapter", "info", out, "--json")
  [shown] = json.loads(capsys.readouterr().out)
  assert shown["origin"] == {
    "training": {
      "run": str(run),
      "step": 6,
      "task": TASKS[0],
      "initial_values": {
        "hypermodel": {"run": str(served / "lora"), "step": 6}
      },
    }
  }
  assert shown["backbone"]["source"] == str(served / "backbone")
  assert shown["instruction"] == {
    "text": served_example.INSTRUCTION,
    "readers": ["backbone"],
  }
  assert not _run("adapter", "info", out)
  assert f"      task: {TASKS[0]}" in capsys.readouterr().out.splitlines()
  shared = adapters_of_run.TrainedAdapters(str(runs / "shared_lora"))
  [adapter] = shared.read(shared.chosen())
  assert adapter.info.origin == {
    "training": {
      "run": str(runs / "shared_lora"),
      "step": 6,
      "initial_values": {"random_seed": 0},
    }
  }


def test_what_cannot_be_saved_is_named_and_nothing_is_written(
  served, runs, tmp_path, capsys
):
  out = ("--out", tmp_path / "out")
  tasks, shared = runs / "tasks_lora", runs / "shared_lora"
  for given, message in (
    ((served / "lora",), "is a run of HyperTuning, whose adapters are written"),
    ((served / "backbone",), "is a run of LanguageModel, which trains no adap"),
    ((runs,), "is no run: it has no checkpoint in checkpoints/"),
    ((runs / "nothing",), "nothing: there is no such folder"),
    ((shared, "--task", TASKS[0]), "trained one adapter for all of its tasks"),
    ((tasks, "--task", "x"), f"trained adapters of {TASKS[0]}, {TASKS[1]}"),
    ((tasks, "--step", 4), "tasks_lora keeps the steps [3, 6], not 4"),
  ):
    assert message in _refusal(capsys, "adapter", "save", *given, *out)
  (tmp_path / "out" / TASKS[1]).mkdir(parents=True)
  shown = _refusal(capsys, "adapter", "save", tasks, *out)
  assert f"{TASKS[1]} exists and is no adapter folder" in shown
  assert [x.name for x in (tmp_path / "out").iterdir()] == [TASKS[1]]
  # Where a folder of adapters is asked for, a run is told what makes one.
  given = ("--inputs", tmp_path / "in.txt", "--out", tmp_path / "out.jsonl")
  (tmp_path / "in.txt").write_text("one\n")
  model = ("--model", served / "lora", "--adapter", tasks)
  shown = _refusal(capsys, "predict", *model, *given)
  assert "is no adapter folder: it has no adapter.json; of a run" in shown


def test_a_run_of_several_adapters_is_the_beginning_of_none(
  served, runs, tmp_path
):
  with pytest.raises(ValueError, match="2 tasks; `hyperjax adapter save"):
    served_example.tune(
      tmp_path / "run", served / "tokens", "lora", runs / "tasks_lora"
    )
  assert not (tmp_path / "run").exists()


def test_any_run_with_that_t5_and_the_t5_itself_answer_alike(
  served, runs, tmp_path, capsys
):
  """A Hugging Face folder learns from the adapter how text is read."""
  hf, adapter = tmp_path / "hf", tmp_path / "a"
  assert not _run("import", "--from", runs / "tasks_lora", "--to", hf)
  assert not _run("adapter", "save", runs / "shared_lora", "--out", adapter)
  (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in ASKED))
  given = ("predict", "--inputs", tmp_path / "in.txt", "--scores")
  found = []
  for model in (
    *(runs / name for name in ("shared_lora", "tasks_lora", "tasks_prefix")),
    *(served / name for name in ("backbone", "prefix")),
    hf,
  ):
    out = tmp_path / f"{model.name}.jsonl"
    own = ("--model", model, "--out", out)
    assert not _run(*given, *own, "--adapter", adapter)
    found.append(_rows(out))
  assert all(rows == found[0] for rows in found)
  plain = ("--model", runs / "shared_lora", "--out", tmp_path / "plain.jsonl")
  capsys.readouterr()
  assert not _run(*given, *plain)
  assert "of the plain T5: `hyperjax adapter save`" in capsys.readouterr().out
  assert _rows(tmp_path / "plain.jsonl") != found[0]


def test_a_t5_alone_is_told_how_it_reads_text(served, tmp_path, capsys):
  hf = tmp_path / "hf"
  assert not _run("import", "--from", served / "backbone", "--to", hf)
  (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in ASKED))
  given = ["predict", "--inputs", tmp_path / "in.txt", "--model", hf]
  given += ["--out", tmp_path / "out.jsonl"]
  lengths = ["--input_length", 8, "--max_length", 6]
  own = [hf / name for name in vocabularies.FILES if (hf / name).is_file()]
  for file in own:
    file.rename(tmp_path / file.name)
  shown = _refusal(capsys, *given, *lengths)
  assert "--vocabulary is needed: the T5" in shown
  for file in own:
    (tmp_path / file.name).rename(file)
  shown = _refusal(capsys, *given)
  assert "--input_length is needed for the T5" in shown
  given += ["--input_length", 8]
  assert "--max_length is needed for the T5" in _refusal(capsys, *given)
  assert not _run(*given, "--max_length", 6)
  model = serving.load(str(served / "lora"))
  found = [row["prediction"] for row in _rows(tmp_path / "out.jsonl")]
  assert found == model.predict(ASKED)
  given += ["--max_length", 6, "--backbone", served / "backbone"]
  assert "hf is a T5 itself" in _refusal(capsys, *given)


def test_an_instruction_that_text_cannot_hold_is_read_as_in_training(
  served, tmp_path
):
  """Words that the tokenizer has no piece for."""
  readers = (instructions.BACKBONE,)
  served_example.write_tasks(tmp_path / "tokens", "name zebra city ;")
  start = (tmp_path / "run", tmp_path / "tokens", "lora", served / "backbone")
  served_example.tune(*start, readers=readers, steps=1)
  run = adapters_of_run.TrainedAdapters(str(tmp_path / "run"))
  [adapter] = run.read(run.chosen(TASKS[:1]))
  adapter.save(tmp_path / "a")
  adapter = adapter_folder.read(tmp_path / "a")
  tasks = served_example._tasks(tmp_path / "tokens")
  source = sources.TasksSideBySide(
    tasks, served_example.LENGTHS | {"inputs": 12}, 2, 2, None, 3, readers
  ).open(0)
  task, [row] = source.rows(0)
  assert task.name == TASKS[0]
  own = task.vocabulary.unknown_id
  assert own in task.instruction
  asked = served_example.rows(served_example.RULES[0])[row]["inputs"]
  model = AnsweringT5(
    backbone.load(str(tmp_path / "run"), lengths={"inputs": 12})
  )
  [tokens], _ = model._tokens([asked], [adapter], 1)
  [wanted] = source[0].inputs
  np.testing.assert_array_equal(tokens[: len(wanted)], wanted)


STILL = {"optimizer": optimizers.AdamW(optimizers.Constant(0.0)), "steps": 1}


def test_a_written_adapter_goes_through_training_and_out_again(
  served, tmp_path
):
  """Training that moves nothing gives back what the hypermodel wrote."""
  model = serving.load(str(served / "lora"))
  written = model.adapt(served_example.pairs(7))
  written.save(tmp_path / "written")
  start = (tmp_path / "run", served / "tokens", "lora", tmp_path / "written")
  served_example.tune(*start, **STILL)
  run = adapters_of_run.TrainedAdapters(str(tmp_path / "run"))
  both = run.read(run.chosen())
  assert [x.identity for x in both] == [written.identity] * 2
  assert both[0].info.backbone == written.info.backbone
  assert both[0].info.origin["training"]["initial_values"] == {
    "adapter": {
      "folder": str(tmp_path / "written"),
      "arrays_sha256": written.identity,
      "origin": written.info.origin,
    }
  }
  assert both[0].info.tokenizer.identity == model.vocabulary.identity
  assert model.predict(ASKED, both[0]) == model.predict(ASKED, written)


@pytest.fixture(scope="module")
def joint(served, tmp_path_factory):
  """A hypermodel trained jointly with its T5."""
  folder = tmp_path_factory.mktemp("joint") / "run"
  start = (folder, served / "tokens", "lora", served / "backbone")
  served_example.train(*start, train_backbone=True)
  return folder


def test_adapters_begin_as_a_jointly_trained_hypermodel_writes_them(
  joint, served, tmp_path
):
  """For the T5 as it was trained with it; the run goes on, and it is found."""
  start = (tmp_path / "run", served / "tokens", "lora", joint)
  served_example.tune(*start, **STILL)
  served_example.tune(*start, **STILL | {"steps": 2})
  run = adapters_of_run.TrainedAdapters(str(tmp_path / "run"))
  assert run.step == 2
  data = sources.TasksSideBySide(
    served_example._tasks(served / "tokens"),
    served_example.LENGTHS,
    2,
    16,
    num_demonstrations=3,
  ).open(0)
  model = serving.load(str(joint))
  wanted = jax.jit(model.run.problem.write)(
    model.hypermodel.params, data.demonstrations()
  )
  both = run.read(run.chosen())
  assert _leaves_differ(both[0].arrays, both[1].arrays)
  for i, adapter in enumerate(both):
    leaves = adapters.path_leaves(wanted)
    for path, leaf in adapters.path_leaves(adapter.arrays).items():
      own = leaves[path][:, i : i + 1]
      np.testing.assert_allclose(leaf, own, rtol=1e-4, atol=1e-5)
  trained = BackboneRef(model.backbone.identity, str(joint), 6)
  assert both[0].info.backbone == trained
  answers = AnsweringT5(backbone.load(str(tmp_path / "run"))).predict(
    ASKED, both[0]
  )
  assert answers == model.predict(ASKED, both[0])
  for rule, own in zip(served_example.RULES, both, strict=True):
    curve = curves.read(tmp_path / "run", "curves")[f"records_rule_{rule:03}"]
    loss = _mean_loss(model, own, rule)
    assert curve.values == pytest.approx([loss] * len(curve.steps), rel=1e-4)


def test_a_jointly_trained_run_is_used_and_exported_as_any_other(
  joint, served, tmp_path, capsys
):
  """Its T5 is known by the hash of its weights as trained."""
  pairs = served_example.pairs(7)
  rows = [json.dumps({"input": x, "output": y}) + "\n" for x, y in pairs]
  (tmp_path / "e.jsonl").write_text("".join(rows))
  (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in ASKED))
  given = ("--examples", tmp_path / "e.jsonl", "--out", tmp_path / "a")
  assert not _run("adapt", "--model", joint, *given)
  source = restore.open_t5(joint)
  adapter = adapter_folder.read(tmp_path / "a")
  frozen = serving.load(str(served / "lora"))
  assert adapter.info.backbone.identity != frozen.backbone.identity
  out = ("--inputs", tmp_path / "in.txt", "--out", tmp_path / "out.jsonl")
  own = ("--adapter", tmp_path / "a", *out)
  assert not _run("predict", "--model", joint, *own)
  problem = served_example.problem("lora", train_backbone=True)
  served_example.score(joint, served / "tokens", problem)
  scored = _rows(joint / "inference_eval" / "rules-predictions.jsonl")
  shown = [x["predictions"]["right"] for x in scored if x["task"] == TASKS[0]]
  inputs = [x["input"] for x in scored if x["task"] == TASKS[0]]
  found = {x["input"]: x["prediction"] for x in _rows(tmp_path / "out.jsonl")}
  assert [found[text] for text in inputs] == shown
  given = ("--adapter", tmp_path / "a", "--to", "orbax")
  assert not _run("export", *given, "--out", tmp_path / "merged")
  assert "verified: " in capsys.readouterr().out
  merged = restore.open_t5(tmp_path / "merged")
  name = "encoder/layers_0/attention/query/kernel"
  assert np.any(merged.read(name) != source.read(name))
  moved = ("--backbone", served / "backbone")
  adapt = ("adapt", "--examples", tmp_path / "e.jsonl", "--out", tmp_path / "b")
  for command in (("predict", *own), adapt):
    shown = _refusal(capsys, *command, "--model", joint, *moved)
    assert "was trained in that run, and is part of it" in shown
  with pytest.raises(ValueError, match="was trained with its hypermodel"):
    served_example.tune(
      tmp_path / "run",
      served / "tokens",
      "lora",
      joint,
      backbone=str(served / "backbone"),
    )
