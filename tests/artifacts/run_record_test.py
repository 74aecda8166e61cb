"""`run.json`: what is written is read, and what breaks a rule is named."""

import dataclasses
import json

import pytest

from hyperjax import optimizers, sharding
from hyperjax.artifacts import config_json, run_file
from hyperjax.artifacts.run_record import (
  BackboneRef,
  DataRecord,
  FolderRef,
  InitialValues,
  ProblemRecord,
  Reads,
  RunRecord,
  RunStep,
  TaskShare,
  TokenizerRef,
  Training,
)
from hyperjax.models import problems
from tests import testing

PROBLEM = testing.hypertuning(testing.SPECS["lora"])
RECORD = RunRecord(
  problem=config_json.problem_record(PROBLEM),
  backbone=BackboneRef("ab" * 32, "/t5", 4),
  reads=Reads(
    TokenizerRef("sentencepiece", "cd" * 32, "/spiece.model", 100, 32100),
    {"inputs": 8, "targets": 6, "demonstrations": 36, "num_demonstrations": 0},
    ("backbone",),
    {"copy": (4, 5)},
  ),
  training=Training(
    10,
    16,
    config_json.tagged(optimizers.AdamW(optimizers.LinearDecay(1e-3, 10))),
    config_json.tagged(sharding.MeshSpec()),
    2,
  ),
  initial_checkpoint="/t5",
  assignment_map=(("a/(.*)", r"b/\1"), ("c", None)),
  initial_values=InitialValues(hypermodel=RunStep("/hyper", 7)),
  folder="/run",
  versions={"hyperjax": "1.0", "jax": "2.0"},
  data=DataRecord(
    seed=3,
    rows_per_context=2,
    kind="FewShotEpisodes",
    mixture="copies",
    split="train",
    settings={"num_demonstrations": (1, 3), "demonstrations": None},
    tasks=(TaskShare("copy", 1.0, 40), TaskShare("other", 0.5, 10)),
  ),
)


def test_a_record_is_read_as_it_was_written(tmp_path):
  run_file.write(tmp_path, RECORD)
  assert run_file.read(tmp_path) == RECORD
  assert run_file.sources(tmp_path) == [tmp_path / "run.json"]


@pytest.mark.parametrize(
  "problem",
  [
    PROBLEM,
    testing.hypertuning(testing.SPECS["prefix"], train_backbone=True),
    problems.LanguageModel(testing.CONFIG, z_loss=1e-4),
    problems.FullFineTuning(testing.CONFIG, True),
    problems.AdapterFineTuning(testing.CONFIG, testing.SPECS["prefix"], 3),
  ],
  ids=lambda x: type(x).__name__,
)
def test_a_problem_is_made_again_of_its_record(tmp_path, problem):
  own = config_json.problem_record(problem)
  run_file.write(tmp_path, dataclasses.replace(RECORD, problem=own))
  read = run_file.read(tmp_path).problem
  assert config_json.problem(read, "x") == problem
  assert read.trains_t5 == (
    "backbone" in testing.make_trainer(problem).abstract.params
  )


def test_a_record_of_few_words_has_defaults_for_the_rest(tmp_path):
  """As of a later version whose earlier one knew less."""
  own = {"format": 1, "problem": {"kind": "LanguageModel"}}
  (tmp_path / "run.json").write_text(json.dumps(own))
  record = run_file.read(tmp_path)
  assert record == RunRecord(ProblemRecord("LanguageModel"))
  assert record.problem.trains_t5_alone and record.is_t5_alone


def test_initial_values_are_said_as_one_thing():
  ref = FolderRef("/a", "ab", {"x": 1})
  assert InitialValues(adapter=ref).given == {
    "adapter": {"folder": "/a", "arrays_sha256": "ab", "origin": {"x": 1}}
  }


def _changed(content, path, value):
  *first, last = path
  for name in first:
    content = content[name]
  if value is None:
    del content[last]
  else:
    content[last] = value


@pytest.mark.parametrize(
  "path, value, message",
  [
    (["format"], 2, "has format 2, this version of HyperJAX reads 1"),
    (["problem"], None, "run.json lacks 'problem'; the fields of RunRecord"),
    (["problem"], 3, "problem must be a JSON object, got 3"),
    (["problem", "kind"], 3, "problem.kind must be the name of a class, got 3"),
    (
      ["training", "steps"],
      "many",
      "training.steps must be a whole number, got",
    ),
    (["training", "steps"], True, "training.steps must be a whole .* got True"),
    (
      ["backbone", "source"],
      None,
      "backbone lacks 'source'; the fields of Back",
    ),
    (
      ["reads", "lengths", "inputs"],
      1.5,
      "reads.lengths.inputs must be a whole",
    ),
    (["reads", "instruction_readers"], "x", "readers must be a list, got 'x'"),
    (
      ["data", "tasks", 1, "rows"],
      "x",
      r"data.tasks\[1\].rows must be a whole",
    ),
    (["versions"], [], r"versions must be a JSON object, got \[\]"),
    (["colour"], "red", "run.json has an unknown 'colour'; the fields of RunR"),
  ],
)
def test_a_damaged_record_is_refused_by_file_field_and_rule(
  tmp_path, path, value, message
):
  run_file.write(tmp_path, RECORD)
  file = tmp_path / "run.json"
  content = json.loads(file.read_text())
  _changed(content, path, value)
  file.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message) as refusal:
    run_file.read(tmp_path)
  assert str(file) in str(refusal.value)


def test_a_record_cut_short_is_refused(tmp_path):
  run_file.write(tmp_path, RECORD)
  text = (tmp_path / "run.json").read_text()
  (tmp_path / "run.json").write_text(text[:100])
  with pytest.raises(ValueError, match=r"run\.json: not JSON"):
    run_file.read(tmp_path)


@pytest.mark.parametrize(
  "path, value, message",
  [
    (["kind"], "Mine", "problem.kind must be one of LanguageModel, .*'Mine'"),
    (
      ["adapters", "kind"],
      "Mine",
      "problem.adapters.kind must be one of .*Lora",
    ),
    (
      ["adapters", "rank"],
      0,
      "problem.adapters: LoraSpec.rank must be a whole",
    ),
    (["adapters", "rank"], None, "problem.adapters lacks 'rank'"),
    (["backbone", "dtype"], 3, "problem.backbone.dtype must be text, got 3"),
    (["hypermodel", "t5", "size"], 3, "hypermodel.t5 has an unknown 'size'"),
  ],
)
def test_a_record_that_describes_no_problem_is_refused_by_its_field(
  tmp_path, path, value, message
):
  run_file.write(tmp_path, RECORD)
  file = tmp_path / "run.json"
  content = json.loads(file.read_text())
  _changed(content["problem"], path, value)
  file.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message):
    config_json.problem(run_file.read(tmp_path).problem, str(file))
