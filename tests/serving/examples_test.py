"""Files of examples and inputs, and a file of answers that grows."""

import json

import pytest

from hyperjax.serving import examples, growing_file, inputs

PAIRS = [("a b", "c"), ('say "x", y', "z\n2")]


def _read(tmp_path, name, content):
  path = tmp_path / name
  if isinstance(content, str):
    content = content.encode()
  path.write_bytes(content)
  return examples.read(path)


FILES = {
  "jsonl": (
    "e.jsonl",
    '{"input": "a b", "output": "c", "id": 3}\n\n'
    '{"output": "z\\n2", "input": "say \\"x\\", y"}\n',
    [1, 3],
  ),
  "csv": ("e.csv", 'a b,c\n\n"say ""x"", y","z\n2"\n', [1, 3]),
  "csv with a header": (
    "e.csv",
    '\ufeffInput, OUTPUT\r\na b,c\r\n"say ""x"", y","z\n2"',
    [2, 3],
  ),
}


@pytest.mark.parametrize("name, content, lines", FILES.values(), ids=FILES)
def test_every_format_gives_the_same_examples(tmp_path, name, content, lines):
  found = _read(tmp_path, name, content)
  assert [(x.input, x.output) for x in found] == PAIRS
  assert [x.line for x in found] == lines


def test_a_tsv_has_no_quotes(tmp_path):
  found = _read(tmp_path, "e.tsv", 'input\toutput\nsay "x"\t"y\n')
  assert [(x.input, x.output) for x in found] == [('say "x"', '"y')]
  assert found[0].line == 2


def test_only_a_first_row_of_both_names_is_a_header(tmp_path):
  found = _read(tmp_path, "e.csv", "input,answer\ninput,output\n")
  assert [(x.input, x.output) for x in found] == [
    ("input", "answer"),
    ("input", "output"),
  ]


BROKEN = {
  "no field": (
    "e.jsonl",
    '{"input": "a", "output": "b"}\n{"input": "a", "outputs": "b"}\n',
    r"e\.jsonl, line 2 has no 'output', only input, outputs",
  ),
  "no JSON": ("e.jsonl", '{"input": "a"', r"e\.jsonl, line 1: not JSON"),
  "no text": (
    "e.jsonl",
    '{"input": "a", "output": 3}\n',
    r"e\.jsonl, line 1: 'output' must be a string, got 3",
  ),
  "half a character": (
    "e.jsonl",
    '{"input": "\\ud800", "output": "b"}\n',
    r"line 1: 'input' is not valid Unicode",
  ),
  "blank": (
    "e.csv",
    "a,b\nc, \n",
    r"e\.csv, line 2: 'output' must not be blank, got ' '",
  ),
  "three columns": (
    "e.tsv",
    "a\tb\nc\td\te\n",
    r"e\.tsv, line 2: two columns are needed, input and output; got 3",
  ),
  "open quote": ("e.csv", 'a,b\n"c,d\n', r"e\.csv, line 2: unexpected end"),
  "Latin-1": ("e.csv", "a,\xe9\n".encode("latin-1"), r"e\.csv, line 1: 'utf-8"),
  "nothing": ("e.jsonl", "", r"e\.jsonl holds no example"),
  "only a header": ("e.csv", "input,output\n", r"e\.csv holds no example"),
  "another format": ("e.xlsx", "", r"read from \.jsonl, \.csv and \.tsv files"),
}


@pytest.mark.parametrize("name, content, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named_with_its_rule(tmp_path, name, content, message):
  with pytest.raises(ValueError, match=message):
    _read(tmp_path, name, content)


def test_a_missing_file_is_named(tmp_path):
  for name in ("e.jsonl", "e.csv"):
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
      examples.read(tmp_path / name)


def test_inputs_are_lines_of_text_or_objects(tmp_path):
  (tmp_path / "i.txt").write_bytes(b"a b\r\n\n c \n")
  found = inputs.read(tmp_path / "i.txt")
  assert [x.input for x in found] == ["a b", "", " c "]
  assert [x.line for x in found] == [1, 2, 3]
  row = {"input": "a", "id": 7, "adapter": "x", "choices": ["b", "c"]}
  (tmp_path / "i.jsonl").write_text("\n" + json.dumps(row) + "\n")
  [question] = inputs.read(tmp_path / "i.jsonl")
  assert question == inputs.Question(
    "a", row, 2, adapter="x", output=None, choices=["b", "c"]
  )
  row = {"input": "", "output": "d", "adapter": None, "choices": None}
  (tmp_path / "i.jsonl").write_text(json.dumps(row))
  assert inputs.read(tmp_path / "i.jsonl") == [
    inputs.Question("", row, 1, adapter=None, output="d", choices=())
  ]


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"inputs": "a"}', "line 1 has no 'input', only inputs"),
    ('{"input": "a", "adapter": 3}', "line 1: 'adapter' must be a string"),
    ('{"input": "a", "output": 3}', "line 1: 'output' must be a string"),
    ('{"input": "a", "choices": "b"}', "'choices' must be a list of texts"),
    ('{"input": "a", "choices": []}', "'choices' must be a list of texts"),
    ('{"input": "a", "choices": [1]}', "each of 'choices' must be a string"),
    ("", "holds no input"),
  ],
)
def test_a_broken_input_is_named_with_its_rule(tmp_path, line, message):
  (tmp_path / "i.jsonl").write_text(line)
  with pytest.raises(ValueError, match=message):
    inputs.read(tmp_path / "i.jsonl")


ROWS = [{"n": i, "text": "é"} for i in range(5)]


def test_a_growing_file_goes_on_after_a_cut_line(tmp_path):
  path = tmp_path / "out.jsonl"
  file = growing_file.GrowingFile(path, {"seed": 1})
  file.begin(0)
  file.add(ROWS)
  whole = path.read_bytes()
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    file = growing_file.GrowingFile(path, {"seed": 1})
    done = len(file.lines)
    assert done == whole[:size].count(b"\n")
    file.begin(done)
    file.add(ROWS[done:])
    assert path.read_bytes() == whole


def test_a_file_of_other_settings_is_not_continued(tmp_path):
  path = tmp_path / "out.jsonl"
  file = growing_file.GrowingFile(path, {"seed": 1, "beams": 2})
  file.begin(0)
  file.add(ROWS)
  before = path.read_bytes()
  with pytest.raises(ValueError, match="other settings") as refusal:
    growing_file.GrowingFile(path, {"seed": 3, "beams": 2})
  assert "seed was 1, is now 3" in str(refusal.value)
  assert "beams" not in str(refusal.value)
  assert path.read_bytes() == before
  file = growing_file.GrowingFile(path, {"seed": 3}, overwrite=True)
  assert file.lines == [] and path.read_bytes() == before
  file.begin(0)
  file.add(ROWS[:1])
  assert len(growing_file.GrowingFile(path, {"seed": 3}).lines) == 1
  (tmp_path / "mine.jsonl").write_text("{}\n")
  with pytest.raises(ValueError, match=r"no mine\.jsonl\.settings\.json says"):
    growing_file.GrowingFile(tmp_path / "mine.jsonl", {})
  assert (tmp_path / "mine.jsonl").read_text() == "{}\n"


def test_examples_that_are_given_have_no_line():
  assert examples.Example("a", "b").line == 0


def test_files_of_inputs_are_known_by_name_and_may_be_marked_as_utf_8(tmp_path):
  (tmp_path / "i.csv").write_text("a")
  with pytest.raises(ValueError, match=r"read from \.jsonl and \.txt files"):
    inputs.read(tmp_path / "i.csv")
  (tmp_path / "i.txt").write_bytes("\ufeffé".encode())
  assert [x.input for x in inputs.read(tmp_path / "i.txt")] == ["é"]
  (tmp_path / "i.txt").write_bytes(b"\xe9")
  with pytest.raises(ValueError, match=r"i\.txt: not UTF-8"):
    inputs.read(tmp_path / "i.txt")
  (tmp_path / "i.txt").write_bytes(b"")
  with pytest.raises(ValueError, match=r"i\.txt holds no input"):
    inputs.read(tmp_path / "i.txt")


def test_a_growing_file_lies_beside_its_settings_in_a_folder(tmp_path):
  with pytest.raises(ValueError, match=r"--out .*no/out"):
    growing_file.GrowingFile(tmp_path / "no" / "out", {})
  file = growing_file.GrowingFile(tmp_path / "out", {"seed": (1, 2)})
  file.begin(0)
  assert json.loads((tmp_path / "out.settings.json").read_text()) == {
    "seed": [1, 2]
  }
  assert (tmp_path / "out").read_bytes() == b""
  file.add([{"a": "é"}])
  assert (tmp_path / "out").read_bytes() == '{"a": "é"}\n'.encode()
  # A tuple is what JSON makes of it.
  again = growing_file.GrowingFile(tmp_path / "out", {"seed": (1, 2)})
  assert again.lines == ['{"a": "é"}'.encode()]


def test_a_file_that_is_begun_anew_never_lies_beside_other_settings(
  tmp_path, monkeypatch
):
  """Killed between the two, it is not there."""
  path = tmp_path / "out"
  file = growing_file.GrowingFile(path, {"seed": 1})
  file.begin(0)
  file.add(ROWS)
  file = growing_file.GrowingFile(path, {"seed": 2}, overwrite=True)

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(growing_file.files, "write_json", killed)
  with pytest.raises(KeyboardInterrupt):
    file.begin(0)
  assert not path.exists()
