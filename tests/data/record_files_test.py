"""Frames of TFRecord files: lengths are not believed."""

import struct

import pytest

from hyperjax.data import record_files


def _record(content, length=None):
  length = len(content) if length is None else length
  return struct.pack("<QI", length, 0) + content + bytes(4)


WHOLE = _record(b"abc") + _record(b"")  # of 19 and 16 bytes


def test_records_that_fill_their_file_pass(tmp_path):
  for content in (b"", WHOLE):
    (tmp_path / "x").write_bytes(content)
    record_files.check(tmp_path / "x")


@pytest.mark.parametrize(
  "added, end",
  [
    (_record(b"", 2**62), 35 + 16 + 2**62),
    (_record(b"ab", 3), 35 + 16 + 3),
    (b"\0" * 11, 35 + 12),
    (_record(b"abc")[:-1], 35 + 19),
  ],
)
def test_a_record_that_ends_after_its_file_is_named(tmp_path, added, end):
  path = tmp_path / "x"
  path.write_bytes(WHOLE + added)
  with pytest.raises(ValueError) as raised:
    record_files.check(path)
  assert str(raised.value) == (
    f"{path} is damaged or cut short: record 2, at byte 35, ends at byte {end}, "
    f"the file at {35 + len(added)}"
  )


@pytest.mark.parametrize(
  "byte, record", [(0, 0), (12, 0), (18, 0), (19, 1), (31, 1)]
)
def test_a_byte_is_of_a_record(tmp_path, byte, record):
  (tmp_path / "x").write_bytes(WHOLE)
  said = record_files.named(tmp_path / "x", f"corrupted record at {byte}")
  assert said == f"corrupted record at {byte} (record {record})"


def test_a_message_without_a_byte_stays(tmp_path):
  assert record_files.named(tmp_path / "x", "no such file") == "no such file"
