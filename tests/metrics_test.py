"""Metric files, read back."""

import json
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from hyperjax import metrics

WHOLE = b'{"step": 1, "loss": 2.5}\n{"step": 2, "loss": NaN}\n'


def _read(folder, content):
  (folder / "metrics.jsonl").write_bytes(content)
  return metrics.read(folder / "metrics.jsonl")


@pytest.mark.parametrize("end", [b"", b'{"step": 3', b"{\n", bytes(40) + b"\n"])
def test_what_a_failure_left_of_the_last_line_is_left_out(tmp_path, end):
  assert [line["step"] for line in _read(tmp_path, WHOLE + end)] == [1, 2]


@pytest.mark.parametrize(
  "line, message",
  [
    (b"{", "line 3: not JSON"),
    (b"[1]", "line 3: a JSON object is needed"),
    (b'{"loss": 1}', "line 3 has no 'step', only loss"),
    (b'{"step": -1}', "line 3: 'step' must be a whole number from 0"),
    (b'{"step": 3, "loss": "x"}', "line 3: 'loss' must be a number, got 'x'"),
  ],
)
def test_another_broken_line_is_named(tmp_path, line, message):
  with pytest.raises(ValueError, match=message):
    _read(tmp_path, WHOLE + line + b"\n" + WHOLE)


def test_a_mean_is_of_all_that_was_weighed():
  window = metrics.Window({"loss": [4.0, 1.0], "old": [3.0, 2.0]})
  window.add({"loss": (np.float32(2.0), np.float32(3.0)), "new": (1.0, 0.0)})
  window.add({"loss": (3.0, 2.0)})
  assert window.means() == {"loss": 9 / 6, "old": 1.5, "new": 0.0}
  assert metrics.Window(json.loads(json.dumps(window.as_json()))).as_json() == {
    "loss": [9.0, 6.0],
    "old": [3.0, 2.0],
    "new": [1.0, 0.0],
  }


def _events(folder):
  """What TensorBoard reads: step and value by name, in their order."""
  found = {}
  for path in sorted(folder.glob("events.out.tfevents.*")):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,) = struct.unpack_from("<Q", data, at)
      event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      for value in event.summary.value:
        found.setdefault(value.tag, []).append((event.step, value.simple_value))
      at += 12 + length + 4
  return found


def test_lines_are_on_the_disk_at_once_and_events_repeat_them(tmp_path):
  log = metrics.RunLog(tmp_path / "run", None)
  log.write_timing(2, {"seconds": 4.0})
  log.write(2, {"loss": 2.5, "accuracy": 0.5})
  log.write(4, {"loss": 1.5})
  folder = tmp_path / "run"
  assert metrics.read(folder / metrics.METRICS) == [
    {"step": 2, "loss": 2.5, "accuracy": 0.5},
    {"step": 4, "loss": 1.5},
  ]
  assert metrics.read(folder / metrics.TIMINGS) == [{"step": 2, "seconds": 4.0}]
  log.close()
  assert _events(folder) == {
    "seconds": [(2, 4.0)],
    "loss": [(2, 2.5), (4, 1.5)],
    "accuracy": [(2, 0.5)],
  }


@pytest.mark.parametrize("restored, kept", [(3, 3), (2, 2), (None, 0)])
def test_a_run_goes_on_from_the_lines_until_its_step(tmp_path, restored, kept):
  """Lines and events after it are gone, and those before it are once there."""
  log = metrics.RunLog(tmp_path, None)
  for step in (1, 2, 3, 4):
    log.write(step, {"loss": float(step)})
    log.write_timing(step, {"seconds": 0.5})
  log.close()
  (events,) = tmp_path.glob("events.out.tfevents.*")
  events.rename(tmp_path / "events.out.tfevents.0.before")
  again = metrics.RunLog(tmp_path, restored)
  again.write(9, {"loss": 9.0})
  again.close()
  steps = [*range(1, kept + 1), 9]
  lines = metrics.read(tmp_path / metrics.METRICS)
  assert [line["step"] for line in lines] == steps
  timings = metrics.read(tmp_path / metrics.TIMINGS)
  assert [line["step"] for line in timings] == steps[:-1]
  found = _events(tmp_path)
  assert found["loss"] == [(step, float(step)) for step in steps]
  assert found.get("seconds", []) == [(step, 0.5) for step in steps[:-1]]


def test_other_processes_than_the_first_write_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  log = metrics.NoLog()
  log.write(1, {"loss": 1.0})
  log.write_timing(1, {"seconds": 1.0})
  log.close()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "seconds, wanted",
  [
    (0.4, "0:00:00"),
    (59.6, "0:01:00"),
    (3725.4, "1:02:05"),
    (1e6, "277:46:40"),
  ],
)
def test_time_left_is_in_hours_minutes_and_seconds(seconds, wanted):
  assert metrics.clock(seconds) == wanted
