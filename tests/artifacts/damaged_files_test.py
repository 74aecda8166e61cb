"""Damaged files of runs and of adapters."""

import dataclasses

import numpy as np
import pytest

from hyperjax.artifacts import (
  adapter_folder,
  config_json,
  encoded_examples,
  run_file,
)
from hyperjax.artifacts.run_record import (
  BackboneRef,
  DataRecord,
  InitialValues,
  Reads,
  RunRecord,
  RunStep,
  TaskShare,
  TokenizerRef,
  Training,
)
from tests import damage, testing
from tests.artifacts import adapter_folder_test, older_runs_test


def _adapter(folder):
  values = np.ones((5, 4), np.float32)
  adapter = dataclasses.replace(
    adapter_folder_test._adapter(),
    encoded=encoded_examples.Encoded(values, num_rows=2),
  )
  adapter.save(folder / "own")


def _read_adapter(folder):
  adapter_folder.read_info(folder / "own")
  found = adapter_folder.read(folder / "own", with_encoded=True)
  assert found.info.config.emb_dim == testing.CONFIG.emb_dim
  assert found.encoded.num_rows >= 1


def _run(folder):
  record = RunRecord(
    config_json.problem_record(testing.hypertuning(testing.SPECS["lora"])),
    BackboneRef("ab" * 32, "/t5", 3),
    Reads(
      TokenizerRef("sentencepiece", "cd" * 32, "/x.model", 7, 96),
      {"inputs": 8, "targets": 6},
      ("backbone",),
      {"a": (1, 2)},
    ),
    Training(10, 4),
    initial_values=InitialValues(hypermodel=RunStep("/run", 3)),
    folder="/run",
    versions={"hyperjax": "1"},
    data=DataRecord(3, 2, "FewShotEpisodes", tasks=(TaskShare("a", 1.0, 5),)),
  )
  run_file.write(folder, record)


def _read_run(folder):
  record = run_file.read(folder)
  where = str(folder / run_file.FILE)
  if config_json.knows(record.problem):
    config_json.problem(record.problem, where)
  assert isinstance(record.problem.num_tasks, int)
  assert record.task_names is None or all(record.task_names)


def _older(folder):
  older_runs_test._write(folder, "prefix")


CASES = [
  damage.Case(
    "adapter.json", _adapter, "own/adapter.json", _read_adapter, True, "own"
  ),
  damage.Case("adapter", _adapter, "own/adapter.safetensors", _read_adapter),
  damage.Case("encoded", _adapter, "own/encoded.safetensors", _read_adapter),
  damage.Case("run.json", _run, "run.json", _read_run, True),
  damage.Case(
    "an older run's facts",
    _older,
    "checkpoints/12/facts/metadata",
    lambda folder: run_file.read(folder),
    True,
  ),
  damage.Case(
    "an older run's config",
    _older,
    "config.gin",
    lambda folder: run_file.read(folder),
  ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)
