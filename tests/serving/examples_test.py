"""Files of examples and inputs, and a file of answers that grows."""

import datetime
import decimal
import io
import json

import pytest

from hyperjax.serving import examples, growing_file, inputs
from hyperjax.serving.fields import Fields

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
  "csv with more columns, in another order": (
    "e.csv",
    'id,Label,Text\n7,c,a b\n8,"z\n2","say ""x"", y"\n',
    [2, 3],
  ),
  "semicolons": ("e.csv", 'a b;c\n"say ""x"", y";"z\n2"\n', [1, 2]),
  "tabs in a csv": (
    "e.csv",
    'question\tanswer\na b\tc\n"say ""x"", y"\t"z\n2"\n',
    [2, 3],
  ),
  "an array": (
    "e.json",
    '[{"question": "a b", "answer": "c"},\n'
    '{"answer": "z\\n2", "question": "say \\"x\\", y"}]',
    [1, 2],
  ),
  "an array in a file of lines": (
    "e.jsonl",
    '\n[{"input": "a b", "output": "c"}, '
    '{"output": "z\\n2", "input": "say \\"x\\", y"}]',
    [1, 2],
  ),
  "rows of empty cells, as spreadsheets have them": (
    "e.csv",
    'a b;c\n;\n"say ""x"", y";"z\n2"\n ; \n;;\n',
    [1, 3],
  ),
  "what Excel says of semicolons": (
    "e.csv",
    'sep=;\r\na b;c\r\n"say ""x"", y";"z\n2"\r\n',
    [2, 3],
  ),
  "any delimiter that is named": (
    "e.csv",
    'sep=|\nlabel|text\nc|a b\n"z\n2"|"say ""x"", y"\n',
    [3, 4],
  ),
  "UTF-16 with its mark": (
    "e.csv",
    'a b\tc\n"say ""x"", y"\t"z\n2"\n'.encode("utf-16"),
    [1, 2],
  ),
  "a name in large letters": ("E.CSV", 'a b,c\n"say ""x"", y","z\n2"', [1, 2]),
  "an array of pairs": (
    "e.json",
    '[["a b", "c"],\n ["say \\"x\\", y", "z\\n2"]]',
    [1, 2],
  ),
  "pairs on lines": (
    "e.jsonl",
    '["a b", "c"]\n\n["say \\"x\\", y", "z\\n2"]\n',
    [1, 3],
  ),
  "lines of JSON": (
    "e.json",
    '\ufeff{"prompt": "a b", "completion": "c"}\n'
    '{"prompt": "say \\"x\\", y", "completion": "z\\n2"}\n',
    [1, 2],
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


def test_a_first_row_is_a_header_only_if_it_names_both_columns(tmp_path):
  found = _read(tmp_path, "e.csv", "question,answer\ninput,output\n")
  assert [(x.input, x.output) for x in found] == [("input", "output")]
  path = tmp_path / "e.csv"
  path.write_text("Frage,Antwort\na,b\n")
  found, notes, warnings = examples.read_noted(path)
  assert [(x.input, x.output) for x in found] == [
    ("Frage", "Antwort"),
    ("a", "b"),
  ]
  # Not silently.
  assert "e.csv, line 1, is no header, by its words" in warnings[0]
  assert "'Frage | Antwort'" in warnings[0] and not notes
  named = Fields("Antwort", "Frage")
  found, notes, warnings = examples.read_noted(path, named)
  assert [(x.input, x.output) for x in found] == [("b", "a")]
  assert notes == ["'Antwort' is read as input, 'Frage' is read as output"]
  assert not warnings


def test_columns_are_those_that_are_named(tmp_path):
  path = tmp_path / "e.jsonl"
  path.write_text('{"text": "a", "question": "b", "label": "c", "gold": "d"}\n')
  found = examples.read(path, Fields("question", "gold"))
  assert [(x.input, x.output) for x in found] == [("b", "d")]
  with pytest.raises(
    ValueError, match="'question' and 'text' may all be the in"
  ):
    examples.read(path)
  with pytest.raises(
    ValueError, match=r"line 1 has no 'Gold', only text, ques"
  ):
    examples.read(path, Fields("question", "Gold"))
  table = tmp_path / "e.csv"
  table.write_text("Frage,Antwort\na,b\n")
  with pytest.raises(
    ValueError,
    match=r"line 1 has no 'frag', only Frage, Antwort; did you mean 'Frage'\?$",
  ):
    inputs.read(table, Fields("frag", "Antwort"))
  with pytest.raises(ValueError, match="did you mean 'Antwort'"):
    inputs.read(table, Fields("Frage", "Antwrt"))  # not left out in silence
  # One that has the very name is it.
  path.write_text('{"text": "a", "input": "b", "output": "c", "label": "d"}\n')
  assert [(x.input, x.output) for x in examples.read(path)] == [("b", "c")]


def test_a_column_is_either_input_or_output(tmp_path):
  path = tmp_path / "e.csv"
  path.write_text("question,answer\na,b\n")
  with pytest.raises(ValueError, match="both say 'answer'"):
    examples.read(path, Fields("answer", "answer"))
  with pytest.raises(ValueError, match="has no 'output', only question, ans"):
    examples.read(path, Fields("answer"))
  path.write_text("question,text\na,b\n")
  [found] = examples.read(path, Fields(None, "text"))
  assert (found.input, found.output) == ("a", "b")


def test_one_object_over_several_lines_is_a_row(tmp_path):
  [found] = _read(tmp_path, "e.json", '{\n "input": "a",\n "output": "b"\n}\n')
  assert (found.input, found.output) == ("a", "b")


def test_quotes_that_a_tsv_keeps_are_warned_of(tmp_path):
  path = tmp_path / "e.tsv"
  path.write_text('input\toutput\n"a, ""b"""\tc\n"d"\t"\n')
  found, _, warnings = examples.read_noted(path)
  assert [x.input for x in found] == ['"a, ""b"""', '"d"']
  assert len(warnings) == 1 and "line 2: the quotes around" in warnings[0]
  assert "(2 such cells)" in warnings[0]
  path.write_text('input\toutput\nsay "x"\t"y\n')
  assert examples.read_noted(path).warnings == []


def test_numbers_are_texts_as_json_writes_them(tmp_path):
  lines = [3, -0.5, True, "x"]
  content = "".join(
    json.dumps({"input": i, "output": x}) + "\n" for i, x in enumerate(lines)
  )
  found = _read(tmp_path, "e.jsonl", content)
  assert [x.output for x in found] == ["3", "-0.5", "true", "x"]
  assert [x.input for x in found] == ["0", "1", "2", "3"]


def test_parquet_is_read_where_pyarrow_is_there(tmp_path, monkeypatch):
  pyarrow = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  path = tmp_path / "e.parquet"
  parquet.write_table(
    pyarrow.table({"label": [1, 0], "text": ["a", "b"]}), path
  )
  found = examples.read(path)
  assert [(x.input, x.output, x.line) for x in found] == [
    ("a", "1", 1),
    ("b", "0", 2),
  ]
  # Kinds of values that JSON has none of, which answers stand beside.
  columns = {
    "text": [b"a"],
    "label": [decimal.Decimal("1.5")],
    "when": [[datetime.date(2020, 1, 2)]],
  }
  parquet.write_table(pyarrow.table(columns), path)
  [question] = inputs.read(path)
  assert (question.input, question.output) == ("a", "1.5")
  assert json.loads(json.dumps(question.fields))["when"] == ["2020-01-02"]
  path.write_bytes(b"PAR1")
  with pytest.raises(
    ValueError, match=r"e\.parquet is no readable Parquet fil"
  ):
    examples.read(path)
  monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
  with pytest.raises(
    ValueError, match=r"need pyarrow: pip install 'hyperjax\[parquet\]'$"
  ):
    examples.read(path)


class _Standard:
  """Standard input that holds something."""

  def __init__(self, content):
    self.buffer = io.BytesIO(content.encode())


def test_standard_input_is_json_a_table_or_lines(monkeypatch):
  def given(content):
    monkeypatch.setattr("sys.stdin", _Standard(content))
    return inputs.tables.STDIN

  for content in (
    '{"input": "a", "output": "b"}\n',
    '[{"output": "b", "input": "a"}]',
    "label;text\nb;a\n",
    "a,b\n",
  ):
    [found] = examples.read(given(content))
    assert (found.input, found.output) == ("a", "b"), content
  for content, wanted in (
    ('{"input": "a, b"}\n', ["a, b"]),
    ("id,question\n3,a\n", ["a"]),
    ("sep=;\ntext;id\na, b;3\n", ["a, b"]),
    ("a, b\n\nc\n", ["a, b", "", "c"]),
  ):
    found = inputs.read(given(content))
    assert [x.input for x in found] == wanted, content


BROKEN = {
  "no field": (
    "e.jsonl",
    '{"input": "a", "output": "b"}\n{"input": "a", "outputs": "b"}\n',
    r"e\.jsonl, line 2 has no 'output', only input, outputs",
  ),
  "no JSON": (
    "e.jsonl",
    '{"input": "a"',
    r"e\.jsonl, line 1: not JSON: Expecting ',' delimiter \(column 14\)$",
  ),
  "null": (
    "e.jsonl",
    '{"input": "a", "output": null}',
    r"line 1: 'output' must be a string or a number, got null",
  ),
  "what pandas writes of no value": (
    "e.jsonl",
    '{"input": "a", "output": NaN}',
    r"line 1: 'output' must be a string or a number, got NaN",
  ),
  "null for an object": (
    "e.json",
    "[null]",
    r"item 1: a JSON object is needed, or a list of an input .* got null",
  ),
  "three in a list": (
    "e.jsonl",
    '["a", "b", "c"]',
    r"object is needed, or a li",
  ),
  "rows within an object": (
    "e.json",
    '{\n "data": [{"text": "a", "label": "b"}]\n}',
    r"no 'input', only data: the list in 'data' is to be the whole file",
  ),
  "no text": (
    "e.jsonl",
    '{"input": "a", "output": [3]}\n',
    r"e\.jsonl, line 1: 'output' must be a string, got \[3\]",
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
  "open quote": ("e.csv", 'a,b\n"c,d\n', r"e\.csv, line 2: a cell that begins"),
  "Latin-1": (
    "e.csv",
    "a,b\nc,\xe9\n".encode("latin-1"),
    r"e\.csv, line 2: not UTF-8; byte 0xe9 is '\xe9' in Latin-1.* iconv -f WIN",
  ),
  "UTF-16": (
    "e.jsonl",
    '{"input": "a", "output": "b"}'.encode("utf-16-le"),
    r"e\.jsonl is UTF-16, not UTF-8: .* iconv -f UTF-16LE -t UTF-8",
  ),
  "UTF-16 with few Western letters": (
    "e.csv",
    ("text,label\n" + 40 * "\u65e5").encode("utf-16-be"),
    r"e\.csv is UTF-16, not UTF-8: .* iconv -f UTF-16BE -t UTF-8",
  ),
  "UTF-32": (
    "e.csv",
    "a,b\n".encode("utf-32"),
    r"is UTF-32, not UTF-8: .* iconv -f UTF-32 -t UTF-8",
  ),
  "a zero": (
    "e.csv",
    "a,b\nc\0,d\n",
    r"e\.csv is no text: line 2 has a byte 0",
  ),
  "a book of sheets by another name": (
    "e.csv",
    b"PK\x03\x04\x14\0\x06\0",
    r"e\.csv is no text but a zip file, .*: save the sheet as CSV",
  ),
  "half a header": (
    "e.csv",
    "text,Klasse\na,b\n",
    r"line 1: a first row with 'text' seems .* --output_field says which one",
  ),
  "a column less": (
    "e.csv",
    "id;text;label\n1;a;b\n2;c\n",
    r"line 3: its header has 3 columns divided by a semicolon, this row 2: \['2'",
  ),
  "a column twice": (
    "e.csv",
    "text,text,label\na,b,c\n",
    r"line 1: two columns are named 'text'",
  ),
  "no object": ("e.json", '["a"]', r"e\.json, item 1: a JSON object is needed"),
  "nothing": ("e.jsonl", "", r"e\.jsonl holds no example"),
  "only a header": ("e.csv", "input,output\n", r"e\.csv holds no example"),
  "another format": (
    "e.xlsx",
    "",
    r"are read from \.jsonl, \.json, \.csv.*; save the sheet as CSV",
  ),
  "half of UTF-16": (
    "e.csv",
    "a,b\n".encode("utf-16")[:-1],
    r"e\.csv is no whole UTF-16: truncated data",
  ),
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
    ('{"Eingabe": "a"}', "line 1 has no 'input', only Eingabe: --input_fiel"),
    ('{"input": "a", "adapter": 3}', "line 1: 'adapter' must be a string"),
    ('{"input": "a", "output": [3]}', "line 1: 'output' must be a string"),
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


def test_a_later_line_alone_may_have_an_output(tmp_path):
  (tmp_path / "i.jsonl").write_text(
    '{"text": "a"}\n{"text": "b", "label": 1}\n{"text": "c", "label": null}\n'
    '{"text": "d", "label": NaN}\n'
  )
  found = inputs.read(tmp_path / "i.jsonl")
  assert [(x.input, x.output) for x in found] == [
    ("a", None),
    ("b", "1"),
    ("c", None),
    ("d", None),
  ]


def test_inputs_are_read_from_whatever_examples_are(tmp_path):
  path = tmp_path / "i.csv"
  path.write_text("id,question,answer\n7,a,3\n")
  [found] = inputs.read(path)
  assert (found.input, found.output, found.line) == ("a", "3", 2)
  # Other columns stay beside the answer.
  assert found.fields == {
    **{"id": "7", "question": "a", "answer": "3"},
    **{"input": "a", "output": "3"},
  }
  path.write_text("one\ntwo\n")
  assert [x.fields for x in inputs.read(path)] == [
    {"input": "one"},
    {"input": "two"},
  ]
  path.write_text("one;1\ntwo;2\n")
  assert [(x.input, x.output) for x in inputs.read(path)] == [
    ("one", "1"),
    ("two", "2"),
  ]
  (tmp_path / "i.xlsx").write_text("a")
  with pytest.raises(ValueError, match=r"inputs are read from \.jsonl, \.json"):
    inputs.read(tmp_path / "i.xlsx")


def test_lines_of_text_may_be_marked_as_utf_8(tmp_path):
  (tmp_path / "i.txt").write_bytes("\ufeffé".encode())
  assert [x.input for x in inputs.read(tmp_path / "i.txt")] == ["é"]
  (tmp_path / "i.txt").write_bytes(b"\xe9")
  with pytest.raises(ValueError, match=r"i\.txt, line 1: not UTF-8"):
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


def test_how_columns_of_inputs_were_found_is_known(tmp_path):
  path = tmp_path / "i.csv"
  path.write_text("Eingabe;Kommentar\na;b\nc;d\n")
  found, notes, warnings = inputs.read_noted(path)
  assert [x.input for x in found] == ["Eingabe", "a", "c"]
  assert "i.csv, line 1, is no header" in warnings[0] and not notes
  path.write_text("Eingabe,text\na,b\n")
  found, notes, warnings = inputs.read_noted(path)
  assert [x.input for x in found] == ["b"]
  assert notes == ["'text' is read as input"] and not warnings


def test_an_empty_cell_of_a_table_is_no_output(tmp_path):
  path = tmp_path / "i.csv"
  path.write_text("input,output,id\na,b,1\nc, ,2\n")
  rows = [{"input": "a", "output": "b", "id": "1"}]
  rows.append({"input": "c", "output": None, "id": "2"})
  found = inputs.read(path)
  assert [x.output for x in found] == ["b", None]
  assert [x.fields for x in found] == rows
  path.write_text("a,b\nc,\n")
  assert [x.fields for x in inputs.read(path)] == [
    {"input": "a", "output": "b"},
    {"input": "c"},
  ]
  # Of JSON it is what somebody wrote.
  (tmp_path / "i.jsonl").write_text('{"input": "a", "output": ""}')
  assert inputs.read(tmp_path / "i.jsonl")[0].output == ""


def test_a_copy_is_what_stands_before_already():
  rows = [("a", "b"), ("a", "c"), ("a", "b"), ("d", "b"), ("a", "b")]
  given = [examples.Example(*row, i) for i, row in enumerate(rows)]
  assert [x.line for x in examples.distinct(given)] == [0, 1, 3]
  assert [x.line for x in examples.copies(given)] == [2, 4]
  assert examples.copies([given[0], given[0]]) == [given[0]]
