"""Metric files, read back."""

import pytest

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
