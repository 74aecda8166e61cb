"""The demo's family: its rules, its vocabulary, and that nothing leaks."""

import itertools

import pytest

from hyperjax.tasks import records

RULES = records.rules()


def _parse(output):
  """The rule whose output this is: fields, writings and joiner all show."""
  words = output.split()
  values = {
    value: field for field, own in records.VALUES.items() for value in own
  }
  parts, joiner = [[]], None
  for word in words:
    if word in records.JOINERS:
      joiner = word
      parts.append([])
    else:
      parts[-1].append(word)
  fields, writings = [], []
  for part in parts:
    value = next(word for word in part if word in values)
    fields.append(values[value])
    if part[0] == "(":
      writings.append("boxed")
    elif part[0] in records.FIELDS:
      writings.append("tagged")
    else:
      writings.append("plain" if len(part) == 1 else "doubled")
  return records.Rule(tuple(fields), tuple(writings), joiner)


def test_there_are_768_rules_and_an_output_tells_its_own():
  assert len(RULES) == len(set(RULES)) == 768
  record = {"name": "alice", "city": "paris", "colour": "red", "number": "two"}
  assert [_parse(rule.apply(record)) for rule in RULES] == list(RULES)
  rule = records.Rule(("colour", "name"), ("boxed", "tagged"), "/")
  assert rule.apply(record) == "( red ) / name alice"
  assert rule.statement == "colour boxed / name tagged"


def test_a_sixth_of_the_rules_is_held_out():
  assert len(records.held_out()) == 128 == len(RULES) // 6
  assert not set(records.train_rules()) & records.held_out()
  assert len(records.train_rules()) == 640
  assert set(records.seen_rules()) <= set(records.train_rules())


def test_held_out_rules_are_in_no_training_stage():
  """By text: whatever an output is, the rule that it shows was trained on."""
  held_out = {RULES[i] for i in records.held_out()}

  stated = list(itertools.islice(records.stated_rows("train"), 6000))
  for row in stated:
    statement = row["inputs"].split(":")[0].split(" . ")[0].strip()
    assert statement not in {rule.statement for rule in held_out}
  documents = list(itertools.islice(records.document_rows("train"), 1500))
  shown = set()
  for row in documents:
    for pair in row["targets"].split(records.NEXT):
      output = pair.partition(records.GIVES)[2].strip()
      if output:
        shown.add(_parse(output))
  for row in stated:
    if ":" in row["inputs"]:
      shown.add(_parse(row["targets"]))
  for rule in records.train_rules():
    shown |= {_parse(r["targets"]) for r in records.rule_rows(rule, "train")}
  assert not shown & held_out
  # The parser is not blind: every training rule was found.
  assert shown == {RULES[i] for i in records.train_rules()}


def test_no_validation_record_is_trained_on_by_its_rule():
  for rule in (0, 300, 767):
    train = {row["inputs"] for row in records.rule_rows(rule, "train")}
    validation = {
      row["inputs"] for row in records.rule_rows(rule, "validation")
    }
    assert len(train) == records.TRAIN_ROWS
    assert len(validation) == records.VALIDATION_ROWS
    assert not train & validation


def test_rules_share_their_validation_inputs():
  inputs = {
    tuple(row["inputs"] for row in records.rule_rows(rule, "validation"))
    for rule in (0, 1, 767)
  }
  assert len(inputs) == 1


def test_rows_are_the_same_every_time():
  for rows in (records.stated_rows, records.document_rows):
    first = list(itertools.islice(rows("train"), 20))
    assert first == list(itertools.islice(rows("train"), 20))


def test_every_word_is_one_id_of_the_vocabulary():
  vocabulary = records.vocabulary()
  words = records.words()
  ids = [vocabulary.encode(word) for word in words]
  assert sorted(i for (i,) in ids) == list(range(3, vocabulary.size))
  line = next(records.document_rows("train"))["targets"]
  assert vocabulary.decode(vocabulary.encode(line)) == line


def test_the_vocabulary_file_is_what_its_recipe_makes(tmp_path):
  records.write_vocabulary(tmp_path / "again.model")
  from hyperjax.data.vocabulary import SentencePiece

  again = SentencePiece(str(tmp_path / "again.model"), extra_ids=0)
  text = " ".join(records.words())
  assert again.encode(text) == records.vocabulary().encode(text)


@pytest.mark.seqio
def test_mixtures_hold_the_rules_they_should():
  import seqio

  records.Records().register()
  records.Records().register()  # twice does no harm

  def names(mixture):
    return {task.name for task in seqio.get_mixture_or_task(mixture).tasks}

  unseen = {records.task_name(i) for i in records.held_out()}
  assert names("records_unseen") == unseen
  assert len(names("records_train")) == 640
  assert not names("records_train") & unseen
  assert names("records_seen") <= names("records_train")
