"""Files of released versions are read, and mean what they meant."""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

from hyperjax import adapters, metrics
from hyperjax.artifacts import adapter_folder, config_json, run_file
from hyperjax.data.store import store
from tests.golden import make, release

VERSIONS = sorted(path.name[:-7] for path in make.HERE.glob("*.tar.xz"))
RUNS = list(release.RATES)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
  return request.param


@pytest.fixture(scope="module")
def folder(version, tmp_path_factory):
  """Elsewhere than they were written."""
  found = tmp_path_factory.mktemp("release")
  with tarfile.open(make.HERE / f"{version}.tar.xz") as archive:
    archive.extractall(found, filter="data")
  return found


@pytest.fixture(scope="module")
def expected(version):
  return json.loads((make.HERE / f"{version}.json").read_text())


def test_a_version_is_there_at_all():
  assert "0.1.0" in VERSIONS


def test_a_store_of_parts_has_its_rows(folder):
  rows, info = store.read(folder / "parts" / "joined")
  wanted = release.part_rows()
  assert len(rows) == len(wanted) and info["task"] == "parts"
  assert tuple(rows.features) == release.NAMES
  for i, row in enumerate(wanted):
    for name in release.NAMES:
      assert rows.row(i, name).tolist() == row[name]
    assert rows.record(i) == row["record"]
  # Rows with equal inputs, and no others, have equal hashes.
  assert rows.hashes[2] == rows.hashes[7] and len(set(rows.hashes)) == 9


@pytest.mark.parametrize("split", ["train", "validation"])
def test_stored_tasks_have_their_rows_and_instruction(folder, split):
  tasks = release.tasks_of(folder / "tokens", split).open()
  for rule, task in zip(release.RULES, tasks, strict=True):
    own = task.vocabulary
    wanted = release.rows(rule, split)
    assert len(task.rows) == len(wanted)
    for i, row in enumerate(wanted):
      for name, text in row.items():
        assert task.rows.row(i, name).tolist() == [*own.encode(text), 1]
    assert own.decode(task.instruction) == release.INSTRUCTION


def test_an_evaluation_asks_what_it_asked(folder, expected):
  found = release.evaluation_draws(folder / "tokens")
  assert json.loads(json.dumps(found)) == expected["evaluation"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_says_what_it_is(folder, version, name):
  record = run_file.read(folder / name)
  problem = release._problem(name)
  assert config_json.problem(record.problem, name) == problem
  assert record.versions["hyperjax"] == version
  assert record.folder == f"/tmp/hyperjax-golden/{name}"
  assert record.training.steps == release.STEPS
  assert record.training.batch_size == 16
  if name != "t5":
    assert record.backbone.source == "/tmp/hyperjax-golden/t5"
  lines = metrics.read(folder / name / metrics.METRICS)
  assert [line["step"] for line in lines] == [*range(3, 43, 3)]


@pytest.mark.parametrize(
  "name",
  [
    "t5",
    "tasks",
    *(pytest.param(x, marks=pytest.mark.slow) for x in release.SPECS),
  ],
)
def test_a_checkpoint_is_restored_to_the_bit(folder, expected, name):
  found = release.saved(folder, name)
  assert found == expected["checkpoints"][name]
  assert found["step"] == release.SAVED and found["pending"]


@pytest.mark.parametrize("name", [*release.SPECS, "tasks"])
def test_an_adapter_folder_is_read_with_what_it_says(folder, expected, name):
  found = adapter_folder.read(folder / "adapters" / name, name == "lora")
  assert found.identity == expected[name]["identity"]
  assert found.info.spec == release.SPECS.get(name, release.SPECS["prefix"])
  assert found.info.config == release.CONFIG
  run = run_file.read(folder / (name if name in release.SPECS else "tasks"))
  assert found.info.backbone.identity == run.backbone.identity
  assert found.info.tokenizer.identity == run.reads.tokenizer.identity
  assert (found.encoded is not None) == (name == "lora")
  assert (found.info.instruction is not None) == (name == "ia3")
  assert ("training" if name == "tasks" else "hypermodel") in found.info.origin


def _assert_answers(found, wanted):
  for part in ("greedy", "texts", "beams"):
    assert found[part] == wanted[part], part
  np.testing.assert_allclose(
    found["log_likelihoods"], wanted["log_likelihoods"], 1e-4, 1e-4
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*release.SPECS, "tasks", "none"])
def test_a_run_answers_as_it_did(folder, expected, name):
  """Under the adapter that was written, and under the one that is written now."""
  of_model = release.model(folder, name if name in release.SPECS else "prefix")
  adapter = None
  if name != "none":
    adapter = adapter_folder.read(folder / "adapters" / name)
  _assert_answers(release.answered(of_model, adapter), expected[name])
  if name not in release.SPECS:
    return
  again = release.write(of_model)
  wanted = adapters.path_leaves(adapter.arrays)
  for path, leaf in adapters.path_leaves(again.arrays).items():
    np.testing.assert_allclose(
      leaf, wanted[path], 1e-4, 1e-4 * np.abs(wanted[path]).max(), err_msg=path
    )
  assert (
    again.info.origin["demonstrations"]
    == (adapter.info.origin["demonstrations"])
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_as_it_would_have(folder, tmp_path, name):
  """From its checkpoint to the losses that it came to when it was not stopped."""
  for part in ("tokens", "t5", name):
    shutil.copytree(folder / part, tmp_path / part, dirs_exist_ok=True)
  *_, wanted = metrics.read(tmp_path / name / metrics.METRICS)
  backbone = None if name == "t5" else pathlib.Path(tmp_path / "t5")
  release.run(tmp_path, name, backbone).execute()
  *_, found = metrics.read(tmp_path / name / metrics.METRICS)
  assert found.keys() == wanted.keys()
  for key, value in wanted.items():
    assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
