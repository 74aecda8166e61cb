"""Runs and adapters that an earlier version wrote, as this one reads them.

`older_runs.json` has what checkpoints and adapter folders of version 172a16e said
of themselves, and the macros of one run's config.gin.
"""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, runs, serving
from hyperjax.artifacts import (
  adapter_folder,
  adapters_of_run,
  config_json,
  restore,
  run_file,
)
from hyperjax.artifacts.run_record import (
  BackboneRef,
  DataRecord,
  InitialValues,
  RunStep,
  TaskShare,
  TokenizerRef,
  Training,
)
from hyperjax.models import problems
from hyperjax.report import run_files, words
from tests import runs_example, served_example

STORED = json.loads(
  (pathlib.Path(__file__).parent / "older_runs.json").read_text()
)


def _write(folder, name, **origin):
  """A run folder as it was, without arrays."""
  facts = json.loads(json.dumps(STORED[name]["facts"]))
  facts["origin"] |= origin
  for step in (3, 12):  # "12" sorts before "3"
    path = folder / "checkpoints" / str(step) / "facts"
    path.mkdir(parents=True)
    (path / "metadata").write_text(json.dumps(facts))
  (folder / "config.gin").write_text(STORED[name].get("config", ""))
  return folder


@pytest.mark.parametrize(
  "name, problem",
  [
    ("t5", problems.LanguageModel(served_example.CONFIG)),
    ("prefix", served_example.problem("prefix")),
    ("joint", served_example.problem("lora", train_backbone=True)),
    ("tasks", served_example.tuned("prefix", 2)),
  ],
)
def test_its_problem_is_the_one_that_was_trained(tmp_path, name, problem):
  record = run_file.read(_write(tmp_path, name))
  assert config_json.problem(record.problem, "x") == problem
  assert record.is_of_earlier_version
  assert record.reads.tokenizer == TokenizerRef(
    "sentencepiece",
    "d2385c1cbd22eb41a1a9b51795d0cb418be72115d556be90ccc6f361cc4471ba",
    "/old/rules/vocabularies/d2385c1cbd22eb41.model",
    0,
    84,
  )


def test_its_data_and_its_beginning_are_known_as_far_as_they_were_said(
  tmp_path,
):
  record = run_file.read(_write(tmp_path / "tasks", "tasks"))
  assert record.initial_values == InitialValues(
    hypermodel=RunStep("/old/prefix", 6)
  )
  assert record.backbone.source == "/old/t5" and record.backbone.step == 6
  names = ("records_rule_007", "records_rule_300")
  assert record.task_names == list(names)
  assert record.data == DataRecord(
    0, 8, is_side_by_side=True, tasks=tuple(map(TaskShare, names))
  )
  assert record.reads.instruction_readers == ("backbone",)
  assert record.reads.instructions[names[0]] == (51, 71, 22, 8)
  separate = run_file.read(_write(tmp_path / "prefix", "prefix"))
  assert separate.reads.features["num_demonstrations"] == 3
  assert separate.task_names is None


def test_what_only_its_config_says_is_read_from_there(tmp_path):
  folder = _write(tmp_path / "run", "gin")
  record = run_file.read(folder)
  assert record.folder == "/old/gin"
  assert record.initial_checkpoint == "/old/gin_t5"
  assert record.training == Training(2, 16)
  assert record.data == DataRecord(0, 2, "FewShotEpisodes")
  # gin puts what is long on a line of its own.
  text = STORED["gin"]["config"]
  deep = "/gone/" + "deep/" * 20
  long = text.replace("= '/old/gin_t5'", f"= \\\n    '{deep}'")
  long += 'MIXTURE_OR_TASK_NAME = "plants"\n'
  (folder / "config.gin").write_text(long)
  record = run_file.read(folder)
  assert record.initial_checkpoint == deep and record.data.mixture == "plants"
  assert run_file.sources(folder) == [
    folder / "config.gin",
    folder / "checkpoints" / "12" / "facts" / "metadata",
  ]
  (run,) = run_files.load([folder], tmp_path).runs
  assert words.trained(run) == "hypermodel that writes prefixes of 2"
  assert words.begins_with(run) == "deep (no longer there)"


@pytest.mark.parametrize(
  "origin, message",
  [
    ({"backbone": {"source": "/t5"}}, "backbone lacks 'identity'"),
    ({"reads": {"vocabulary": None}}, "reads lacks 'lengths'"),
    ({"data": {"RANDOM_SEED": 0}}, "has no 'rows_per_context'"),
    ({"configuration": {"hypermodel": {}}}, "has no 't5'"),
    ({"initial_values": {"x": 1}}, "initial_values has an unknown 'x'"),
  ],
)
def test_a_damaged_one_is_refused_by_file_and_field(tmp_path, origin, message):
  _write(tmp_path, "tasks", **origin)
  with pytest.raises(ValueError, match=message) as refusal:
    run_file.read(tmp_path)
  assert "checkpoints/12/facts/metadata" in str(refusal.value)


@pytest.mark.parametrize("name", ["written", "saved"])
def test_an_adapter_folder_is_read(tmp_path, name):
  stored = STORED[name]["adapter"]
  (tmp_path / "adapter.json").write_text(json.dumps(stored))
  info, identity = adapter_folder.read_info(tmp_path)
  assert identity == stored["arrays_sha256"]
  assert info.backbone == BackboneRef(
    *(stored["backbone"][x] for x in ("identity", "source", "step"))
  )
  assert info.tokenizer.description == stored["tokenizer"]
  assert info.origin == stored["origin"]
  assert (
    info.spec == served_example.SPECS["lora" if name == "written" else "prefix"]
  )


def _age(run, name, **places):
  """Makes a run folder one of the earlier version, by what that wrote."""
  record = run_file.read(run)
  (run / run_file.FILE).unlink()
  facts = STORED[name]["facts"]["origin"]
  origin = facts | {
    "backbone": {
      "source": record.backbone.source,
      "identity": record.backbone.identity,
      "step": record.backbone.step,
    }
  }
  if record.reads.tokenizer is not None:
    own = record.reads.tokenizer.description
    origin |= {"reads": facts["reads"] | {"vocabulary": own} | places}
  for path in (run / "checkpoints").glob("*/facts/metadata"):
    content = json.loads(path.read_text())
    for name in ("figure", "figure_of", "has_manifest"):
      content.pop(name, None)
    assert content.keys() - {"origin"} == {"position", "pending", "key"}
    path.write_text(json.dumps(content | {"origin": origin}))
    (path.parents[1] / "manifest.json").unlink(missing_ok=True)


def _arrays(run):
  saver = checkpoints.Checkpoints(run / "checkpoints", read_only=True)
  found = saver._manager.restore(saver.latest())["params"]
  saver.close()
  return jax.tree.leaves(found)


@pytest.mark.slow
def test_a_run_goes_on_and_has_a_record_from_then_on(world, tmp_path, capsys):
  start = (world / "tokens", tmp_path / "new", world / "backbone")
  runs_example.multitask(*start, steps=2).execute()
  shutil.copytree(tmp_path / "new", tmp_path / "old")
  _age(tmp_path / "old", "gin")
  found = run_file.read(tmp_path / "old")
  assert found.is_of_earlier_version and found.training is None
  for name in ("new", "old"):
    run = runs_example.multitask(
      world / "tokens", tmp_path / name, world / "backbone", steps=4
    )
    run.execute()
  for one, other in zip(
    _arrays(tmp_path / "new"), _arrays(tmp_path / "old"), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  new, old = (run_file.read(tmp_path / name) for name in ("new", "old"))
  assert old.problem == new.problem and old.data == new.data
  assert old.backbone == new.backbone and not old.is_of_earlier_version
  _age(tmp_path / "old", "gin")
  other = runs_example.multitask(
    world / "tokens", tmp_path / "old", None, steps=6, seed=1
  )
  with pytest.raises(ValueError, match=r"data.seed +0 +1 +its contexts"):
    other.execute()


@pytest.mark.slow
def test_a_run_answers_and_is_evaluated_as_before(served, tmp_path):
  evaluation = served_example.evaluation(served / "tokens")
  found = []
  for is_old in (False, True):
    run = tmp_path / str(is_old)
    shutil.copytree(served / "prefix", run)
    if is_old:
      lengths = dict(run_file.read(run).reads.lengths)
      _age(run, "prefix", lengths=lengths)
    adapter = serving.load(str(run)).adapt(served_example.pairs(7))
    (result,) = runs.Evaluate(str(run), None, (evaluation,)).execute()
    found.append((adapter.identity, result["scores"], result["backbone"]))
  assert found[0] == found[1]
  with pytest.raises(ValueError, match="is a run of HyperTuning, whose"):
    adapters_of_run.TrainedAdapters(str(tmp_path / "True"))
  assert restore.open_t5(tmp_path / "True").path == str(served / "backbone")
