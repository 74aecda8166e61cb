"""The built-in task family: records rewritten by a rule.

A record has four fields, one word each: "alice paris red seven". A rule picks
two fields, how each is written and what joins them, 768 rules in all:

```
name tagged ; city doubled      alice paris red seven -> name alice ; paris paris
colour boxed / name plain       alice paris red seven -> ( red ) / alice
```

A sixth of the rules is held out: they are in no training split of any task
here. Which rule holds shows in an output alone, so one demonstration tells it.
"""

import dataclasses
import functools
import itertools
import pathlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hyperjax.data.vocabulary import SentencePiece

VERSION = 1  # of the rows below: stored tokens are made again when it changes
VOCABULARY = pathlib.Path(__file__).parent / "records.model"

FIELDS = {
  "name": "alice bruno carla david elena felix greta henri irene jonas karin "
  "louis marta nadia oscar paula",
  "city": "paris london berlin madrid rome vienna oslo dublin lisbon prague "
  "athens warsaw zurich cairo delhi tokyo",
  "colour": "red green blue yellow black white brown orange purple pink grey "
  "silver golden violet crimson amber",
  "number": "one two three four five six seven eight nine ten eleven twelve "
  "twenty thirty forty fifty",
}
VALUES = {field: words.split() for field, words in FIELDS.items()}
WRITINGS = {
  "plain": "{value}",
  "tagged": "{field} {value}",
  "boxed": "( {value} )",
  "doubled": "{value} {value}",
}
JOINERS = (";", "/", "and", "then")
# Between a rule and a record, a record and its output, one pair and the next.
STATED, GIVES, NEXT = ":", "=", "."

NUM_HELD_OUT = 128
TRAIN_ROWS = 64  # of each rule's task
VALIDATION_ROWS = 10
STATED_ROWS = 40_000
DOCUMENTS = 4_000
PAIRS_PER_DOCUMENT = 12

Record = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Rule:
  """Two different fields, how each is written, and what joins them."""

  fields: tuple[str, str]
  writings: tuple[str, str]
  joiner: str

  def apply(self, record: Record) -> str:
    """The record as this rule rewrites it."""
    parts = [
      self.part(field, writing, record)
      for field, writing in zip(self.fields, self.writings, strict=True)
    ]
    return f"{parts[0]} {self.joiner} {parts[1]}"

  def part(self, field: str, writing: str, record: Record) -> str:
    """One of the two fields, written."""
    return WRITINGS[writing].format(field=field, value=record[field])

  @property
  def statement(self) -> str:
    """The rule in words."""
    first, second = zip(self.fields, self.writings, strict=True)
    return f"{' '.join(first)} {self.joiner} {' '.join(second)}"


@dataclasses.dataclass(frozen=True)
class Maker:
  """Makes rows: from how records are drawn, and how they stand in an input."""

  draw: Callable[[random.Random], Record]
  line: Callable[[Record], str]
  seed: str = ""  # before those of the rows
  # Those that all rules are trained on; by default each has its own.
  shared: Callable[[], Sequence[Record]] | None = None

  def rows(self, rule: Rule, index: int, split: str) -> list[dict[str, str]]:
    """A rule's rows; records of the validation split are not trained on."""
    unseen = found = different(
      self.draw, f"{self.seed}validation", VALIDATION_ROWS
    )
    if split == "train":
      drawn = self._drawn(index, TRAIN_ROWS + VALIDATION_ROWS)
      found = [record for record in drawn if record not in unseen][:TRAIN_ROWS]
    return [
      {"inputs": self.line(record), "targets": rule.apply(record)}
      for record in found
    ]

  def document(
    self, rule: Rule, generator: random.Random, num_pairs: int
  ) -> str:
    """Records and what a rule makes of them, one after the other."""
    lines = []
    for _ in range(num_pairs):
      record = self.draw(generator)
      lines.append(f"{self.line(record)} {GIVES} {rule.apply(record)} {NEXT}")
    return " ".join(lines)

  def documents(
    self, rules: Sequence[Rule], split: str
  ) -> Iterator[dict[str, str]]:
    """For hyperpretraining: documents of pairs that never state their rule."""
    generator = random.Random(f"{self.seed}documents {split}")
    for _ in range(DOCUMENTS if split == "train" else 100):
      rule = generator.choice(rules)
      yield {"targets": self.document(rule, generator, PAIRS_PER_DOCUMENT)}

  def _drawn(self, index: int, count: int) -> Sequence[Record]:
    """Those that a rule may be trained on."""
    if self.shared is None:
      return different(self.draw, f"{self.seed}train {index}", count)
    generator = random.Random(f"{self.seed}rule {index}")
    return generator.sample(self.shared(), count)


@functools.cache
def different(
  draw_one: Callable[[random.Random], Record], seed: str, count: int
) -> tuple[Record, ...]:
  """Different records, the same ones for the same seed."""
  generator = random.Random(seed)
  found: list[Record] = []
  while len(found) < count:
    record = draw_one(generator)
    if record not in found:
      found.append(record)
  return tuple(found)


@functools.cache
def rules() -> tuple[Rule, ...]:
  """All rules, in a fixed order."""
  return tuple(
    Rule(fields, writings, joiner)
    for fields in itertools.permutations(FIELDS, 2)
    for writings in itertools.product(WRITINGS, repeat=2)
    for joiner in JOINERS
  )


@functools.cache
def held_out() -> frozenset[int]:
  """Indices of the rules that no training split contains."""
  return frozenset(random.Random(0).sample(range(len(rules())), NUM_HELD_OUT))


@functools.cache
def train_rules() -> tuple[int, ...]:
  """Indices of the other rules."""
  return tuple(i for i in range(len(rules())) if i not in held_out())


def seen_rules() -> list[int]:
  """As many training rules as are held out, to be scored beside them."""
  return sorted(random.Random(1).sample(train_rules(), NUM_HELD_OUT))


def task_name(rule: int) -> str:
  return f"records_rule_{rule:03}"


def rule_rows(rule: int, split: str) -> list[dict[str, str]]:
  """A rule's rows: input a record, target what the rule makes of it.

  All rules share the validation records, so that the answer of one rule can be
  compared with that of another. No training record is among them.
  """
  return MAKER.rows(rules()[rule], rule, split)


def stated_rows(split: str) -> Iterator[dict[str, str]]:
  """For pretraining: the rule is stated, then documents go on.

  Half of the rows rewrite one record; the others continue a document of
  several pairs from anywhere in it, which makes the T5 a language model.
  """
  generator = random.Random(f"stated {split}")
  for _ in range(STATED_ROWS if split == "train" else 200):
    rule = rules()[generator.choice(train_rules())]
    if generator.random() < 0.5:
      record = draw(generator)
      yield {
        "inputs": f"{rule.statement} {STATED} {line(record)}",
        "targets": rule.apply(record),
      }
      continue
    words = MAKER.document(rule, generator, 3).split()
    cut = generator.randrange(1, len(words))
    begin = f"{rule.statement} {NEXT} " + " ".join(words[:cut])
    yield {"inputs": begin, "targets": " ".join(words[cut : cut + 12])}


def document_rows(split: str) -> Iterator[dict[str, str]]:
  """Documents of the training rules."""
  return MAKER.documents([rules()[i] for i in train_rules()], split)


@dataclasses.dataclass(frozen=True)
class Records:
  """Registers the family's seqio tasks and mixtures.

  `records_rule_000` ... are the rules' tasks; `records_train` mixes those that
  are trained on, `records_unseen` the held-out ones, `records_seen` as many of
  the former. `records_stated` and `records_documents` are for pretraining.

  `vocabulary` is as everywhere: a SentencePiece model, a tokenizer.json or
  "bytes"; by default a model with one id per word.
  """

  vocabulary: str = str(VOCABULARY)

  def register(self) -> None:
    add = functools.partial(
      add_task, version=VERSION, owner=self, vocabulary=self.vocabulary
    )
    for rule in range(len(rules())):
      add(task_name(rule), functools.partial(rule_rows, rule))
    add("records_stated", stated_rows)
    add("records_documents", document_rows, features=("targets",))
    add_mixtures(
      {
        "records_train": [task_name(i) for i in train_rules()],
        "records_seen": [task_name(i) for i in seen_rules()],
        "records_unseen": [task_name(i) for i in sorted(held_out())],
      },
      self,
    )


def add_task(
  name: str,
  rows: Callable[[str], Iterable[dict[str, str]]],
  version: int,
  owner: Any,
  features: Sequence[str] = ("inputs", "targets"),
  vocabulary: str = str(VOCABULARY),
) -> None:
  """Registers a seqio task whose rows are made here."""
  from hyperjax.data.store import seqio_tasks  # imports seqio

  feature = seqio_tasks.text_feature(
    vocabulary, extra_ids=0, setting="Records.vocabulary"
  )
  source = seqio_tasks.RowsSource(
    rows,
    ("train", "validation"),
    dict.fromkeys(features, 0),
    made_of=lambda split: {"records": version, "name": name, "split": split},
  )
  seqio_tasks.add_task(name, source, dict.fromkeys(features, feature), owner)


def add_mixtures(mixtures: Mapping[str, Sequence[str]], owner: Any) -> None:
  """Registers mixtures of tasks, by their names."""
  from hyperjax.data.store import seqio_tasks  # imports seqio

  for name, tasks in mixtures.items():
    seqio_tasks.add_mixture(name, list(tasks), owner)


def vocabulary() -> SentencePiece:
  """One id per word."""
  return SentencePiece(str(VOCABULARY), extra_ids=0)


def words() -> list[str]:
  """Every word of every row."""
  values = [value for words in VALUES.values() for value in words]
  marks = ["(", ")", STATED, GIVES, NEXT]
  return [*values, *FIELDS, *WRITINGS, *JOINERS, *marks]


def write_vocabulary(
  path: pathlib.Path, of_words: Sequence[str] | None = None
) -> None:
  """Makes a word-level SentencePiece model, by default of `words()`."""
  import sentencepiece

  prefix, own = path.with_suffix(""), of_words or words()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([" ".join(own)] * 2),
    model_prefix=str(prefix),
    model_type="word",
    vocab_size=len(own) + 3,
    normalization_rule_name="identity",
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
  )
  prefix.with_suffix(".vocab").unlink()


def draw(generator: random.Random) -> Record:
  """A random record."""
  return {field: generator.choice(values) for field, values in VALUES.items()}


def line(record: Record) -> str:
  """A record as an input has it."""
  return " ".join(record[field] for field in FIELDS)


MAKER = Maker(draw, line)
