"""The family with rules that show only in comparison, and that nothing leaks."""

import collections
import dataclasses
import itertools

import pytest

from hyperjax.data.vocabulary import SentencePiece
from hyperjax.tasks import records, records_signed

RULES = records_signed.rules()
RECORD = {"name": "alice", "city": "paris", "colour": "red", "number": "two"}
DAY, NIGHT = RECORD | {"mark": "day"}, RECORD | {"mark": "night"}


def test_a_sign_depends_on_the_mark_and_on_the_rule():
  bright, dark = (
    records_signed.Rule(("name", "city"), ("plain", "boxed"), ";", sign)
    for sign in ("bright", "dark")
  )
  assert bright.statement == "bright name plain ; city boxed"
  assert bright.apply(DAY) == dark.apply(NIGHT) == "+ alice ; ( paris )"
  assert bright.apply(NIGHT) == dark.apply(DAY) == "- alice ; ( paris )"
  assert bright.kind == dark.kind == "compared"


def test_outputs_alone_do_not_tell_a_compared_rule():
  """Of the records trained on, another rule of each writes the same outputs."""
  swap = {"bright": "dark", "dark": "bright"}
  shared = records_signed.shared_records()
  inputs = {records_signed.line(record) for record in shared}
  assert len(inputs) == len(shared) == 512
  for rule in RULES:
    if rule.kind == "shown":
      continue
    twin = dataclasses.replace(rule, sign=swap[rule.sign])
    written = [
      collections.Counter(one.apply(record) for record in shared)
      for one in (rule, twin)
    ]
    assert written[0] == written[1]
    assert all(rule.apply(record) != twin.apply(record) for record in shared)
  for index in records_signed.train_rules()[::40]:
    rows = records_signed.rule_rows(index, "train")
    assert {row["inputs"] for row in rows} < inputs


def test_an_output_alone_tells_a_shown_rule():
  """No two shown rules write the same of any two records."""
  marked = [DAY, NIGHT, DAY | {"name": "bruno", "number": "ten"}]
  shown = [rule for rule in RULES if rule.kind == "shown"]
  written = collections.defaultdict(set)
  for rule in shown:
    for record in marked:
      written[rule.apply(record)].add(rule)
  assert all(len(rules) == 1 for rules in written.values())
  rest = ("name", "city"), ("plain", "plain"), "/"
  assert records_signed.Rule(*rest).apply(DAY) == "alice / paris"
  named = records_signed.Rule(*rest, "darkly")
  assert named.kind == records_signed.Rule(*rest).kind == "shown"
  assert named.apply(DAY) == "dark - alice / paris"
  assert named.apply(NIGHT) == "dark + alice / paris"


def test_as_many_rules_of_each_kind_are_held_out():
  assert len(RULES) == len(set(RULES)) == 896
  for kind in ("shown", "compared"):
    of_kind = {i for i, rule in enumerate(RULES) if rule.kind == kind}
    assert len(of_kind) == 448
    assert len(records_signed.held_out(kind)) == 64
    assert set(records_signed.held_out(kind)) < of_kind
  held_out = {
    i for kind in ("shown", "compared") for i in records_signed.held_out(kind)
  }
  assert set(records_signed.train_rules()) == set(range(896)) - held_out


def test_held_out_rules_are_in_no_training_stage():
  """Whatever rule could have made a row of a stage, one of them is trained on.

  A row that fits held-out rules alone would have shown one of them.
  """
  trained = {RULES[i] for i in records_signed.train_rules()}
  statements = {rule.statement: rule for rule in RULES}
  stated, asked, num_asked, num_examples = set(), set(), 0, 0
  for row in itertools.islice(records_signed.stated_rows("train"), 15_000):
    begin = row["inputs"].split(" : ")[0].split(" . ")[0]
    if begin in statements:  # a rule and a record, or a document
      stated.add(statements[begin])
    elif row["inputs"].endswith(records.STATED):
      pairs = row["inputs"].removesuffix(records.STATED)
      asked.add(statements[row["targets"]])
      num_asked += 1
      if num_asked % 10 == 0:  # all would take long
        assert statements[row["targets"]] in _fits(pairs)
    else:
      assert row["inputs"].endswith(records.GIVES)
      num_examples += 1
      if num_examples % 10 == 0:
        assert _fits(f"{row['inputs']} {row['targets']}") & trained
  assert stated == trained  # the parser is not blind
  assert asked <= trained and len(asked) > 700
  assert num_asked > 2_500 and num_examples > 2_500
  for row in itertools.islice(records_signed.document_rows("train"), 300):
    assert _fits(row["targets"]) & trained
  for index in records_signed.train_rules()[::40]:
    for row in records_signed.rule_rows(index, "train"):
      pair = f"{row['inputs']} = {row['targets']} ."
      assert RULES[index] in _fits(pair)


def _fits(document):
  """All rules that every pair of a document follows."""
  found = set(RULES)
  for pair in document.split(records.NEXT):
    given, _, output = pair.partition(records.GIVES)
    if not output.strip():
      continue
    record = dict(zip([*records.FIELDS, "mark"], given.split(), strict=True))
    found = {rule for rule in found if rule.apply(record) == output.strip()}
  return found


def test_no_validation_record_is_trained_on_by_its_rule():
  for rule in (0, 500, 895):
    train, validation = (
      {row["inputs"] for row in records_signed.rule_rows(rule, split)}
      for split in ("train", "validation")
    )
    assert len(train) == records.TRAIN_ROWS
    assert len(validation) == records.VALIDATION_ROWS
    assert not train & validation


def test_every_word_is_one_id_and_the_file_is_what_its_recipe_makes(tmp_path):
  vocabulary = records_signed.vocabulary()
  ids = [vocabulary.encode(word) for word in records_signed.words()]
  assert sorted(i for (i,) in ids) == list(range(3, vocabulary.size))
  path = tmp_path / "again.model"
  records.write_vocabulary(path, records_signed.words())
  text = " ".join(records_signed.words())
  again = SentencePiece(str(path), extra_ids=0)
  assert again.encode(text) == vocabulary.encode(text)


@pytest.mark.seqio
def test_mixtures_hold_the_rules_they_should():
  import seqio

  records_signed.SignedRecords().register()

  def names(mixture):
    found = seqio.get_mixture_or_task(f"records_signed_{mixture}").tasks
    return {task.name for task in found}

  assert len(names("train")) == 768
  assert len(names("shown")) == len(names("compared")) == 64
  assert names("unseen") == names("shown") | names("compared")
  assert not names("unseen") & names("train")
