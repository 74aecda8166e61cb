"""What is printed of a run's data is what its models see."""

import re
import subprocess
import sys

import numpy as np
import pytest

from hyperjax import main
from hyperjax.batch import Context, Lengths
from hyperjax.commands import inspect
from hyperjax.commands.inspect import Inspect, Paint
from hyperjax.data import episodes, pairs, text
from hyperjax.data.store import seqio_store, store
from hyperjax.tasks import records
from tests import conftest
from tests.data import rows

PLAIN = Paint(False)
LENGTHS = Lengths(inputs=8, targets=8, demonstrations=64)
FEATURES = ("inputs", "targets")


class _Data:
  """A source, as a description of data that opens it."""

  rows_per_context = 1

  def __init__(self, source):
    self.source, self.tasks = source, None

  def open(self, seed):
    assert seed == 5
    return self.source


def _records_task(rule, split="train"):
  """A rule's task, and the text of its rows."""
  vocabulary = records.vocabulary()
  texts = list(records.rule_rows(rule, split))
  ids = [
    {name: [*vocabulary.encode(row[name]), rows.EOS] for name in FEATURES}
    for row in texts
  ]
  stored = store.in_memory(ids, FEATURES)
  name = records.task_name(rule)
  return store.Task(name, split, stored, 1.0, vocabulary), texts


def test_labels_are_shown_as_they_are_replaced():
  pairs_of = [([10 + i], [100 + i % 2]) for i in range(40)]
  few_shot = episodes.FewShot((3, 3), 2, relabel=1.0, relabel_with=("symbols",))
  source = episodes.Episodes([rows.task("a", pairs_of)], few_shot, LENGTHS)
  for index in range(10):
    context = source[index]
    _, head, *others = inspect.context_lines(source, index, PLAIN)
    assert "labels replaced (symbols)" in head
    shown = [re.fullmatch(r"    row \d+: .* -> (\d+) 1", x) for x in others[:3]]
    symbols = context.demonstrations.reshape(3, 4)[:, 2]
    assert [int(x[1]) for x in shown] == symbols.tolist()
    answers = [others[i].strip() for i in (6, 10)]
    assert answers == [f"{ids[0]} 1" for ids in context.targets]


def test_an_episode_is_shown_as_the_rows_that_it_is_made_of():
  task, texts = _records_task(100)
  few_shot = episodes.FewShot((2, 4), num_targets=2)
  source = episodes.Episodes([task], few_shot, LENGTHS)
  for index in range(30):
    title, head, *others = inspect.context_lines(source, index, PLAIN)
    assert title == f"context {index}: records_rule_100, split train"
    demonstrations, targets = others[:-8], others[-8:]
    shown = [
      re.fullmatch(r"    row (\d+): (.+) -> (.+)", line).groups()
      for line in demonstrations
    ]
    for row, given, answer in shown:
      assert texts[int(row)] == {"inputs": given, "targets": answer}
    # Each takes an end of sequence after its input and after its output.
    words = [f"{given} {answer}".split() for _, given, answer in shown]
    tokens = sum(map(len, words)) + 2 * len(words)
    assert head == (
      f"  demonstrations: {tokens} tokens of at most 64, "
      f"{len(words)} of {len(words)} drawn"
    )
    assert 2 <= len(words) <= 4
    for number in (1, 2):
      name, inputs, after, answer = targets[4 * number - 4 : 4 * number]
      row = re.fullmatch(
        rf"  inputs {number}, row (\d+): 5 tokens of at most 8", name
      )[1]
      assert inputs.strip() == texts[int(row)]["inputs"]
      assert answer.strip() == texts[int(row)]["targets"]
      count = len(answer.split()) + 1
      assert after == f"  targets {number}: {count} tokens of at most 8"


def test_demonstrations_that_were_dropped_and_inputs_that_were_cut_are_told():
  """Of 12 tokens each, five of eight fit in 64; an input is 10 tokens long."""
  task = rows.numbered("a", 30, length=9)
  source = episodes.Episodes([task], episodes.FewShot((8, 8)), LENGTHS)
  lines = inspect.context_lines(source, 0, PLAIN)
  assert lines[1] == (
    "  demonstrations: 60 tokens of at most 64, 5 of 8 drawn, 3 dropped for "
    "lack of room"
  )
  assert sum(line.startswith("    row ") for line in lines) == 5
  row = int(source.episode(0).targets[0])
  assert lines[-4:] == [
    f"  inputs, row {row}: 8 tokens of at most 8, cut from 10",
    f"    {' '.join([str(10 + row)] * 7)} 1",
    "  targets: 2 tokens of at most 8",
    f"    {1010 + row} 1",
  ]


def test_rows_that_no_demonstration_is_drawn_from_are_told():
  task = rows.task(
    "long", [([10 + i] * (5 if i in (3, 77) else 90), [9]) for i in range(200)]
  )
  source = episodes.Episodes([task], episodes.FewShot((1, 1)), LENGTHS)
  head = inspect.context_lines(source, 0, PLAIN)[1]
  assert head.endswith("198 of the task's 200 rows too long to be drawn")


def test_a_long_demonstration_takes_a_line_for_its_output():
  task = rows.task("a", [([1000 + i] * 20, [7]) for i in range(3)])
  source = episodes.Episodes([task], episodes.FewShot((1, 1)), LENGTHS)
  row = int(source.episode(0).demonstrations[0])
  lines = inspect.context_lines(source, 0, PLAIN)
  given = " ".join([str(1000 + row)] * 20)
  assert lines[2:4] == [f"    row {row}: {given} 1", "      -> 7 1"]


def test_the_parts_of_a_window_follow_each_other_in_its_document():
  """Document d counts on from 100 (d + 1)."""
  cut = text.CaclmLengths(before=4, prompt=2, continuation=3, after=5)
  lengths = Lengths(inputs=2, targets=3, demonstrations=11)
  task = rows.documents("d", [20, 40], first=100)
  source = text.Caclm([task], cut, lengths)
  for index in range(10):
    lines = inspect.context_lines(source, index, PLAIN)
    assert lines[:2] == [
      f"context {index}: d, split train",
      "  demonstrations: 11 tokens of at most 11, A and D, an end of sequence "
      "after each",
    ]
    assert lines[2::2] == [
      "  A: 4 tokens",
      "  B (inputs): 2 tokens of at most 2",
      "  C (targets): 3 tokens of at most 3",
      "  D: 5 tokens",
    ]
    ids = [int(word) for line in lines[3::2] for word in line.split()]
    assert ids == list(range(ids[0], ids[0] + 14))
    np.testing.assert_array_equal(ids, source.window(index)[1])


def test_a_pair_is_shown_with_its_row():
  task, texts = _records_task(5)
  source = pairs.Pairs([task], Lengths(inputs=4, targets=8))
  for index in range(8):
    lines = inspect.context_lines(source, index, PLAIN)
    row = int(
      re.fullmatch(
        r"  inputs, row (\d+): 4 tokens of at most 4, cut from 5", lines[1]
      )[1]
    )
    assert lines[2].split() == texts[row]["inputs"].split()[:3]
    assert lines[4].strip() == texts[row]["targets"]


def test_the_beginning_and_the_rest_of_a_window_are_shown():
  task = rows.documents("d", [40])
  source = text.PrefixLm([task], Lengths(inputs=6, targets=5), min_length=11)
  lines = inspect.context_lines(source, 3, PLAIN)
  assert lines[0] == "context 3: d, split train"
  inputs, targets = (list(map(int, line.split())) for line in lines[2::2])
  assert inputs == source[3].inputs[0].tolist()
  assert targets[0] == inputs[-1] + 1


def test_a_source_of_the_users_own_is_shown_as_far_as_it_is_known():
  class Own:
    num_skipped = 0
    lengths = LENGTHS
    tasks = (_records_task(0)[0],)

    def __getitem__(self, index):
      encode = records.vocabulary().encode
      return Context(
        inputs=[np.asarray(encode("paris"))],
        targets=[np.asarray([1])],
        demonstrations=np.asarray([*encode("red"), 1, *encode("two"), 1]),
      )

  assert inspect.context_lines(Own(), 0, PLAIN) == [
    "context 0",
    "  demonstrations: 4 tokens of at most 64",
    "    red </s> two",
    "  inputs: 1 token of at most 8",
    "    paris",
    "  targets: 1 token of at most 8",
    "    (no text)",
  ]


def test_a_text_is_one_line_that_a_terminal_cannot_obey():
  class Letters:
    eos_id = 1

    def decode(self, ids):
      return "".join(map(chr, ids))

  ids = [104, 27, 91, 10, 1, 246]
  assert inspect.decode(Letters(), ids) == "h\\x1b[\\n </s> ö"
  assert inspect.decode(None, ids[-2:]) == "1 246"


def test_contexts_are_printed_from_the_one_that_is_asked_for(capsys):
  source = episodes.Episodes(
    [rows.numbered("a", 30)], episodes.FewShot((2, 2)), LENGTHS
  )
  Inspect(_Data(source), seed=5, start=7, num=2).execute()
  expected = [
    *inspect.context_lines(source, 7, PLAIN),
    "",
    *inspect.context_lines(source, 8, PLAIN),
    "",
  ]
  assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
  "is_terminal, no_color, is_coloured",
  [(True, None, True), (True, "1", False), (False, None, False)],
)
def test_colours_are_for_terminals_that_want_them(
  capsys, monkeypatch, is_terminal, no_color, is_coloured
):
  monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
  monkeypatch.delenv("NO_COLOR", raising=False)
  if no_color:
    monkeypatch.setenv("NO_COLOR", no_color)
  source = episodes.Episodes(
    [rows.numbered("a", 30, length=9)], episodes.FewShot((8, 8)), LENGTHS
  )
  Inspect(_Data(source), seed=5, num=1).execute()
  shown = capsys.readouterr().out
  assert ("\033[" in shown) == is_coloured
  bare = re.sub(r"\033\[\d+m", "", shown).splitlines()
  assert bare[:-1] == inspect.context_lines(source, 0, PLAIN)


def test_a_reader_that_has_had_enough_is_no_error():
  program = """
from hyperjax.commands import inspect as show
show.write(str(i) for i in range(1_000_000))
"""
  with subprocess.Popen(
    [sys.executable, "-c", program],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    cwd=conftest.ROOT,
  ) as process:
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def _few_shot(*options):
  known, _ = main.parse(["inspect", "some_task", *options])
  tasks = seqio_store.SeqioTasks("some_task")
  return inspect.few_shot(tasks, known.lengths, known.num_demonstrations)


def test_episodes_are_described_by_options_of_the_command_line():
  lengths = {"demonstrations": 1024, "inputs": 1024, "targets": 128}
  data = _few_shot()
  assert (data.feature_lengths, data.num_demonstrations) == (lengths, (1, 16))
  data = _few_shot("--lengths=targets=9,inputs=7", "--num_demonstrations=4")
  assert data.feature_lengths == lengths | {"targets": 9, "inputs": 7}
  assert data.num_demonstrations == (4, 4)
  assert _few_shot("--num_demonstrations=2,5").num_demonstrations == (2, 5)


@pytest.mark.parametrize(
  "option, message",
  [
    ("--lengths=input=4", "--lengths has 'input'; it may have demonstrations,"),
    ("--lengths=inputs", "--lengths['inputs'] must be a whole number from 1"),
    ("--lengths=inputs=0", "from 1 to 65,536, got 0"),
    ("--num_demonstrations=5,2", "LOW,HIGH with LOW <= HIGH, each a whole"),
    ("--num_demonstrations=1,2,3", "must be LOW,HIGH"),
    ("--num_demonstrations=few", "from 1 to 65,536, got 'few'"),
  ],
)
def test_options_of_another_form_are_refused(capsys, option, message):
  with pytest.raises(SystemExit, match="2"):
    _few_shot(option)
  assert message in capsys.readouterr().err
