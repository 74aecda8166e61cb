import dataclasses
import json
import logging
import struct
import sys
import time

import pytest

from hyperjax import loop, metrics, trackers
from tests import runs_example


class _Failing:
  """A service whose client raises from the second line on."""

  service = "failing"

  def __init__(self):
    self.taken = []

  def open(self, folder, identity, facts):
    return identity or "first", self

  def write(self, step, values):
    if self.taken:
      raise ConnectionError("nobody is there")
    self.taken.append((step, dict(values)))

  write_timing = write

  def close(self):
    raise ConnectionError("nobody is there")


def _log(folder, *given, step=None):
  return trackers.Tracked(
    metrics.RunLog(folder, step), given, folder, {"kind": "HyperTuning"}
  )


def test_a_tracker_that_fails_is_left_out_and_the_run_folder_lacks_nothing(
  tmp_path, caplog
):
  tracker = _Failing()
  log = _log(tmp_path, tracker)
  with caplog.at_level(logging.WARNING):
    for step in (1, 2, 3):
      log.write(step, {"loss": step / 2})
    log.close()
  assert [x["loss"] for x in metrics.read(tmp_path / "metrics.jsonl")] == [
    0.5,
    1.0,
    1.5,
  ]
  assert tracker.taken == [(1, {"loss": 0.5})]
  told = [r.getMessage() for r in caplog.records]
  assert told == ["failing is left out from here: nobody is there"]


@dataclasses.dataclass(frozen=True)
class _Remembering:
  """A service in memory: lines of each run by its identity."""

  runs: dict[str, list] = dataclasses.field(default_factory=dict)

  @property
  def service(self):
    return "memory"

  def open(self, folder, identity, facts):
    identity = identity or f"run {len(self.runs)} of {facts['problem']['kind']}"
    lines = self.runs.setdefault(identity, [])

    class Log(metrics.NoLog):
      def write(self, step, values):
        lines.append({"step": step, **values})

    return identity, Log()


def test_a_run_that_goes_on_tells_the_same_run_there_the_lines_of_its_own_file(
  world, tmp_path
):
  service = _Remembering()
  for steps in (1, 2):
    runs_example.backbone(
      world / "tokens",
      tmp_path,
      steps=steps,
      periods=loop.Periods(log=1, save=1),
      trackers=(service,),
    ).execute()
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [line["step"] for line in lines] == [1, 2]
  assert service.runs == {"run 0 of LanguageModel": lines}


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
  found = pytest.importorskip("mlflow", reason="needs hyperjax[mlflow]")
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
  return found.MlflowClient(f"file:{tmp_path / 'store'}")


@pytest.mark.slow
def test_mlflow_has_every_line_and_a_run_that_goes_on_is_one_run(
  tmp_path, mlflow
):
  tracker = trackers.MLflow("records", mlflow.tracking_uri)
  folder = tmp_path / "run"
  log = _log(folder, tracker)
  log.write(1, {"loss": 2.5, "exact_match (unseen), %": 0.25})
  log.write_timing(1, {"seconds": 4.0})
  log.close()
  log = _log(folder, tracker, step=1)
  log.write(2, {"loss": 1.5})
  log.close()
  experiment = mlflow.get_experiment_by_name("records").experiment_id
  (run,) = mlflow.search_runs([experiment])
  assert run.info.run_name == "run" and run.info.status == "FINISHED"
  assert run.data.tags["kind"] == "HyperTuning"
  assert run.data.metrics == {
    "loss": 1.5,
    "exact_match _unseen__ _": 0.25,
    "seconds": 4.0,
  }
  history = mlflow.get_metric_history(run.info.run_id, "loss")
  assert [(x.step, x.value) for x in history] == [(1, 2.5), (2, 1.5)]


@pytest.mark.slow
def test_a_server_that_is_not_there_is_refused_before_training(tmp_path):
  pytest.importorskip("mlflow", reason="needs hyperjax[mlflow]")
  with pytest.raises(ValueError, match=r"MLflow\.tracking_uri"):
    _log(tmp_path, trackers.MLflow("x", "nonsense://nowhere"))


def _histories(content):
  """Each line of history in a .wandb file, which is LevelDB's log."""
  from wandb.proto import wandb_internal_pb2

  at = 7  # its own header
  while at + 7 < len(content):
    _, size, kind = struct.unpack("<IHB", content[at : at + 7])
    assert kind == 1  # whole: so small a file is one block
    if len(content) < at + 7 + size:
      return  # being written
    record = wandb_internal_pb2.Record.FromString(
      content[at + 7 : at + 7 + size]
    )
    at += 7 + size
    if record.HasField("history"):
      yield {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for item in record.history.item
      }


@pytest.mark.slow
def test_wandb_has_every_line_of_a_run_under_one_identity(tmp_path):
  pytest.importorskip("wandb", reason="needs hyperjax[wandb]")
  tracker = trackers.WeightsAndBiases("records", mode="offline")
  log = _log(tmp_path, tracker)
  for step in (1, 2):
    log.write(step, {"loss": step / 2})
    log.write_timing(step, {"seconds": 4.0})
  log.close()
  identity = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
  (path,) = tmp_path.glob(f"wandb/offline-run-*/run-{identity}.wandb")
  # Written by a process of wandb's, some time after the run is closed.
  end = time.monotonic() + 30
  while len(lines := list(_histories(path.read_bytes()))) < 2:
    assert time.monotonic() < end
    time.sleep(0.1)
  found = [(x["_step"], x["loss"], x["seconds"]) for x in lines]
  assert found == [(1, 0.5, 4.0), (2, 1.0, 4.0)]
  _log(tmp_path, tracker, step=2).close()
  again = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
  assert again == identity


@pytest.mark.parametrize(
  ("name", "package"), [("WeightsAndBiases", "wandb"), ("MLflow", "mlflow")]
)
def test_a_package_that_lacks_is_named_with_its_extra(
  tmp_path, monkeypatch, name, package
):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ValueError, match=rf"hyperjax\[{package}\]"):
    _log(tmp_path, getattr(trackers, name)("records"))
