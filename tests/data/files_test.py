"""Errors of data files name the file and the line."""

import gzip
import json
import tracemalloc

import pytest

from hyperjax.data import files


@pytest.mark.parametrize(
  "content, message",
  [
    (b'{"a": 1}\nnot json\n', r"x\.jsonl, line 2: not JSON"),
    (b'{"a": 1}\n\n[1]\n', r"x\.jsonl, line 3: a JSON object .*got '\[1\]"),
    (b'{"a": 1}\n{"a": "\xff"}\n', r"x\.jsonl, line 2: not UTF-8"),
    (b'\xef\xbb\xbf{"a": 1}\n', r"x\.jsonl, line 1 begins with a byte order"),
    (b"[" * 100_000, r"x\.jsonl, line 1: nested deeper than 64 levels"),
  ],
)
def test_a_broken_line_is_named(tmp_path, content, message):
  path = tmp_path / "x.jsonl"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    list(files.read_json_lines(path))


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_gzip_file_is_named_with_the_line_it_broke_after(
  tmp_path, damage
):
  lines = [json.dumps({"text": f"{i} " * 50}) for i in range(3000)]
  packed = bytearray(gzip.compress("\n".join(lines).encode()))
  if damage == "cut":
    packed = packed[: len(packed) // 2]
  else:
    packed[len(packed) // 2 : len(packed) // 2 + 40] = bytes(40)
  path = tmp_path / "c4.json.gz"
  path.write_bytes(packed)
  with pytest.raises(ValueError, match=r"c4\.json\.gz.* line \d+"):
    list(files.read_json_lines(path))


def test_text_must_be_text():
  good = {"text": "ok"}
  assert files.text_field(good, "text", "f, line 1") == "ok"
  for value, message in (
    ({"text": 3}, "f, line 1: 'text' must be a string, got 3"),
    ({"text": "\ud800"}, "f, line 1: 'text' is not valid Unicode"),
    ({"x": 1}, "f, line 1 has no 'text', only x"),
    ([1], r"f, line 1: a JSON object is needed, got '\[1\]'"),
  ):
    with pytest.raises(ValueError, match=message):
      files.text_field(value, "text", "f, line 1")


def test_a_list_of_texts_is_one_or_says_what_it_must_be():
  value = {"many": ["a", "b"], "none": [], "one": "a", "odd": ["a", 3]}
  assert files.text_list(value, "many", "f") == ["a", "b"]
  assert files.text_list(value, "none", "f") == []
  assert files.text_list(value, "one", "f", takes_text=True) == ["a"]
  with pytest.raises(ValueError, match="f: 'one' must be a list of strings"):
    files.text_list(value, "one", "f")
  with pytest.raises(ValueError, match="'none' must be a list of at least one"):
    files.text_list(value, "none", "f", at_least=1)
  with pytest.raises(ValueError, match="'none' must be a string or a list of"):
    files.text_list(value, "none", "f", at_least=1, takes_text=True)
  with pytest.raises(ValueError, match="f: 'odd' must be a string, got 3"):
    files.text_list(value, "odd", "f")
  with pytest.raises(ValueError, match="f has no 'other', only many"):
    files.text_list(value, "other", "f")


def test_lines_end_as_on_any_system_and_nowhere_else(tmp_path):
  path = tmp_path / "x.txt"
  path.write_bytes("a\u2028b\r\n\r\nc\x0bd\n".encode())
  assert files.read_lines(path) == ["a\u2028b", "", "c\x0bd"]
  for content, message in (
    (b"a\n\xff", r"x\.txt: not UTF-8"),
    (b"\xef\xbb\xbfa", r"x\.txt begins with a byte order mark"),
  ):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
      files.read_lines(path)


def _any(folder):
  """Whatever is there may be replaced."""


def _absent(folder):
  if folder.exists():
    raise ValueError(f"{folder.name} exists")


def test_a_folder_takes_the_place_of_another_once_it_is_whole(tmp_path):
  folder = tmp_path / "a"
  folder.mkdir()
  (folder / "old").touch()
  with files.whole_folder(folder, _any) as made:
    made.mkdir()
    (made / "new").touch()
    (made.parent / "scratch").touch()
    assert [path.name for path in folder.iterdir()] == ["old"]
  assert [path.name for path in tmp_path.iterdir()] == ["a"]
  assert [path.name for path in folder.iterdir()] == ["new"]


def test_nothing_is_left_of_a_folder_that_fails_nor_of_its_parents(tmp_path):
  (tmp_path / "here").mkdir()
  with (
    pytest.raises(KeyboardInterrupt),
    files.whole_folder(tmp_path / "here" / "b" / "c" / "d", _absent) as made,
  ):
    made.mkdir()
    raise KeyboardInterrupt
  assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_what_came_while_a_folder_was_made_is_kept(tmp_path):
  folder = tmp_path / "b" / "c"
  with (
    pytest.raises(ValueError, match="c exists"),
    files.whole_folder(folder, _absent) as made,
  ):
    made.mkdir()
    folder.mkdir()
    (folder / "other").touch()
  found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
  assert found == {"b", "b/c", "b/c/other"}


def test_a_folder_that_cannot_be_replaced_is_back_in_its_place(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "old").touch()
  with (
    pytest.raises(FileNotFoundError),
    files.whole_folder(tmp_path / "a", _any),
  ):
    pass  # nothing was made that could be renamed
  found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
  assert found == {"a", "a/old"}


def test_a_packed_line_without_an_end_is_not_unpacked_whole(tmp_path):
  path = tmp_path / "x.json.gz"
  with gzip.open(path, "wb", compresslevel=1) as file:
    file.write(b'{"a": 1}\n')
    for _ in range(300):
      file.write(bytes(1 << 20))
  assert path.stat().st_size < 2 << 20
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match=r"x\.json\.gz, line 2 is longer than"):
      list(files.read_json_lines(path))
    assert tracemalloc.get_traced_memory()[1] < 3 << 26
  finally:
    tracemalloc.stop()


def test_a_name_that_no_file_can_have_is_of_none(tmp_path):
  for name in ("a" * 5000, "a\0b", "a"):
    assert not files.is_file(tmp_path / name)
    assert not files.is_folder(tmp_path / name)
  (tmp_path / "a").write_text("")
  assert files.is_file(tmp_path / "a") and files.is_folder(tmp_path)


def test_a_whole_number_is_one_within_its_limits():
  assert files.whole_field({"n": 3}, "n", "f", 3, 3) == 3
  for value in (2, 4, 3.0, True, "3", None):
    with pytest.raises(
      ValueError, match="f: 'n' must be a whole number from 3"
    ):
      files.whole_field({"n": value}, "n", "f", 3, 3)


def test_a_list_is_one():
  assert files.list_field({"n": [3]}, "n", "f") == [3]
  with pytest.raises(ValueError, match=r"f: 'n' must be a list, got \{\}"):
    files.list_field({"n": {}}, "n", "f")
