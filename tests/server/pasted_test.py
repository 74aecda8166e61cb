"""What is pasted into the page is read as `hyperjax adapt` reads it from a file."""

import json
import pathlib
import shutil
import subprocess

import pytest

from hyperjax import server
from hyperjax.serving import fields

PAGE = pathlib.Path(server.__file__).parent / "page" / "page.js"
# Its functions without a page: whatever it asks of one is there and does nothing.
READS = """
const nothing = new Proxy(function () {}, {
  get: (_, name) => name === Symbol.toPrimitive ? () => "" : nothing,
  apply: () => nothing,
  set: () => true,
});
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const page = new Function("document", "location", "fetch", given.page + `
  return { parsed, NAMES, doubts: () => doubts };`)(nothing, nothing, () => new Promise(() => {}));
const doubts = [];
const found = given.texts.map((text) => {
  try {
    const pairs = page.parsed(text);
    doubts.push(page.doubts());
    return pairs;
  } catch (error) { return error.message; }
});
console.log(JSON.stringify({ found, doubts, names: page.NAMES }));
process.exit(0);
"""
PAIRS = [["a b", "1"], ["c", "2"]]
READ = (
  ("a b,1\nc,2", PAIRS),
  ("a b\t1\nc\t2\n", PAIRS),
  ("a b;1\r\nc;2\r\n", PAIRS),
  ("Input,Output\na b,1\nc,2", PAIRS),
  ("label;Question;id\n1;a b;7\n2;c;8", PAIRS),
  ('text\tlabel\n"a b"\t1\nc\t2', [['"a b"', "1"], ["c", "2"]]),
  ('"a, b; c";1\n"d ""e""";2', [["a, b; c", "1"], ['d "e"', "2"]]),
  ("one; two,1\nthree; four,2", [["one; two", "1"], ["three; four", "2"]]),
  ('{"question": "a b", "label": 1}\n{"label": 2, "question": "c"}', PAIRS),
  ('[{"input": "a b", "output": true}]', [["a b", "true"]]),
  ('[["a b", "1"], ["c", "2"]]', PAIRS),
  ("\ufeffsep=;\r\nlabel;text\r\n1;a b\r\n2;c\r\n", PAIRS),
  ('"sep=|"\ninput|output\na b|1\nc|2', PAIRS),
  # A column that is called so itself goes before one that only may be it.
  ("text,input,output\nx,a b,1\ny,c,2", PAIRS),
)
REFUSED = (
  ("  ", "Give a few examples first."),
  ('""', "Example 1 has 1 columns, and two are needed"),
  ("input,output", "Give a few examples below the header."),
  ("one,two,three", "Example 1 has 3 columns, and two are needed"),
  ("question,text,label\na,b,c", "question and text may all be the input"),
  ("question,wanted\na,b", "There is no output among the columns question, w"),
  ('{"input": "x"}', "There is no output among the columns input"),
  ('[{"input": "x", "output": "y"}, {"input": "z"}]', "Example 2: output must"),
  ('{"input": ', "This is no JSON"),
)


@pytest.fixture(scope="module")
def page():
  node = shutil.which("node")
  if node is None:
    pytest.skip("node is not installed")
  texts = [text for text, _ in (*READ, *REFUSED)]
  given = json.dumps({"page": PAGE.read_text("utf-8"), "texts": texts})
  done = subprocess.run(
    [node, "-e", READS],
    input=given,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_pairs_are_found_however_they_are_divided_and_named(page):
  assert page["found"][: len(READ)] == [wanted for _, wanted in READ]


def test_a_first_line_that_may_be_a_header_is_told(page):
  told = dict(zip((text for text, _ in READ), page["doubts"], strict=True))
  assert told["a b;1\r\nc;2\r\n"] == [
    "The first line is read as an example (a b | 1). Where it names the columns, "
    "call them input and output."
  ]
  assert told["Input,Output\na b,1\nc,2"] == []
  assert told['[["a b", "1"], ["c", "2"]]'] == []


def test_what_is_no_pair_is_refused_in_a_sentence(page):
  found = page["found"][len(READ) :]
  for told, (text, wanted) in zip(found, REFUSED, strict=True):
    assert told.startswith(wanted), (text, told)


def test_columns_have_the_names_by_which_files_are_read(page):
  assert page["names"] == {x: list(y) for x, y in fields.NAMES.items()}
