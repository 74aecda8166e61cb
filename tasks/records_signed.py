"""Records with rules that show only where an output meets its own input.

A record of `records` with a mark, day or night, at its end. A rule may also have a
sign before its output that depends on the mark; the sign's rule may be named, or
not:

```
bright name plain ; city boxed    alice paris red seven day  -> + alice ; ( paris )
                                  bruno rome blue two night  -> - bruno ; ( rome )
dark name plain ; city boxed      alice paris red seven day  -> - alice ; ( paris )
darkly name plain ; city boxed    alice paris red seven day  -> dark - alice ; ( paris )
```

Fields, writings, joiner and that there is a sign show in an output alone. Whether it
is bright or dark does not: over all records both write the same outputs. It takes an
output and the mark of its own input, and one answer in two is right by chance. So
`shown` rules, without a sign or with a named one, outlive outputs that are rotated
among the demonstrations, and `compared` ones cannot.
"""

import dataclasses
import functools
import itertools
import pathlib
import random
from collections.abc import Iterator

from hyperjax.data.vocabulary import SentencePiece
from hyperjax.tasks import records

VERSION = 3  # of the rows below: stored tokens are made again when it changes
VOCABULARY = pathlib.Path(__file__).parent / "records_signed.model"

MARKS = ("day", "night")
SIGNS = {"bright": ("+", "-"), "dark": ("-", "+")}  # by day, by night
NAMED = {"brightly": "bright", "darkly": "dark"}  # which stands before the sign
KINDS = ("shown", "compared")

JOINERS = records.JOINERS[:2]
NUM_OF_KIND = 448
HELD_OUT_OF_KIND = 64
NUM_RECORDS = 512
PAIRS_IN_INPUT = 2

Record = records.Record


@dataclasses.dataclass(frozen=True)
class Rule(records.Rule):
  """A rule of `records` whose outputs may have a sign before them."""

  sign: str | None = None  # of SIGNS, or of NAMED

  def apply(self, record: Record) -> str:
    output = super().apply(record)
    if self.sign is None:
      return output
    name = NAMED.get(self.sign, self.sign)
    signed = f"{SIGNS[name][MARKS.index(record['mark'])]} {output}"
    return f"{name} {signed}" if self.sign in NAMED else signed

  @property
  def statement(self) -> str:
    rest = super().statement
    return rest if self.sign is None else f"{self.sign} {rest}"

  @property
  def kind(self) -> str:
    """Whether it shows in its outputs alone, or only in comparison."""
    return KINDS[self.sign in SIGNS]


@functools.cache
def rules() -> tuple[Rule, ...]:
  """A fixed sample, as many of each kind."""
  every = [
    Rule(fields, writings, joiner, sign)
    for fields in itertools.permutations(records.FIELDS, 2)
    for writings in itertools.product(records.WRITINGS, repeat=2)
    for joiner in JOINERS
    for sign in (None, *NAMED, *SIGNS)
  ]
  generator = random.Random("signed rules")
  return tuple(
    rule
    for kind in KINDS
    for rule in generator.sample(
      [rule for rule in every if rule.kind == kind], NUM_OF_KIND
    )
  )


@functools.cache
def held_out(kind: str) -> tuple[int, ...]:
  """Indices of the rules of a kind that no training split contains."""
  first = KINDS.index(kind) * NUM_OF_KIND  # they were drawn in random order
  return tuple(range(first, first + HELD_OUT_OF_KIND))


@functools.cache
def train_rules() -> tuple[int, ...]:
  """Indices of the other rules."""
  out = {i for kind in KINDS for i in held_out(kind)}
  return tuple(i for i in range(len(rules())) if i not in out)


def task_name(rule: int) -> str:
  return f"records_signed_rule_{rule:03}"


def rule_rows(rule: int, split: str) -> list[dict[str, str]]:
  """A rule's rows; all rules share the validation records, none trains on them."""
  return MAKER.rows(rules()[rule], rule, split)


def stated_rows(split: str) -> Iterator[dict[str, str]]:
  """For pretraining: rules that are stated, asked for, or shown by an example.

  Of five rows two rewrite a record by a rule that is stated, one states the rule of
  one or two pairs, one has a pair in front of a record in place of the statement,
  and one goes on with a document from anywhere in it. The second and third teach
  what text teaches a large T5: to compare what stands in its input.
  """
  generator = random.Random(f"signed stated {split}")
  for _ in range(records.STATED_ROWS if split == "train" else 200):
    rule = rules()[generator.choice(train_rules())]
    yield _stated_row(rule, generator)


def _stated_row(rule: Rule, generator: random.Random) -> dict[str, str]:
  kind = generator.choice(("stated", "stated", "asked", "example", "document"))
  num_pairs = PAIRS_IN_INPUT
  if kind == "asked":
    num_pairs = generator.randint(1, PAIRS_IN_INPUT)
    given = f"{MAKER.document(rule, generator, num_pairs)} {records.STATED}"
    return {"inputs": given, "targets": rule.statement}
  if kind == "document":
    words = MAKER.document(rule, generator, num_pairs).split()
    cut = generator.randrange(1, len(words))
    begin = f"{rule.statement} {records.NEXT} " + " ".join(words[:cut])
    return {"inputs": begin, "targets": " ".join(words[cut : cut + 12])}
  record = draw(generator)
  given = f"{rule.statement} {records.STATED} {line(record)}"
  if kind == "example":
    pair = MAKER.document(rule, generator, 1)
    given = f"{pair} {line(record)} {records.GIVES}"
  return {"inputs": given, "targets": rule.apply(record)}


def document_rows(split: str) -> Iterator[dict[str, str]]:
  """Documents of the training rules."""
  return MAKER.documents([rules()[i] for i in train_rules()], split)


@dataclasses.dataclass(frozen=True)
class SignedRecords:
  """Registers the family's seqio tasks and mixtures.

  `records_signed_rule_000` ... are the rules' tasks; `records_signed_train` mixes
  those that are trained on, `records_signed_unseen` the others, of which
  `records_signed_shown` and `records_signed_compared` hold a kind each.
  `records_signed_stated` and `records_signed_documents` are for pretraining.
  """

  def register(self) -> None:
    add = functools.partial(
      records.add_task, version=VERSION, owner=self, vocabulary=str(VOCABULARY)
    )
    for rule in range(len(rules())):
      add(task_name(rule), functools.partial(rule_rows, rule))
    add("records_signed_stated", stated_rows)
    add("records_signed_documents", document_rows, features=("targets",))
    mixtures = {kind: held_out(kind) for kind in KINDS} | {
      "train": train_rules(),
      "unseen": [i for kind in KINDS for i in held_out(kind)],
    }
    records.add_mixtures(
      {
        f"records_signed_{name}": [task_name(i) for i in chosen]
        for name, chosen in mixtures.items()
      },
      self,
    )


def vocabulary() -> SentencePiece:
  """One id per word."""
  return SentencePiece(str(VOCABULARY), extra_ids=0)


def words() -> list[str]:
  """Every word of every row."""
  return [*records.words(), *SIGNS, *NAMED, *MARKS, "+", "-"]


def line(record: Record) -> str:
  """A record as an input has it."""
  return f"{records.line(record)} {record['mark']}"


def draw(generator: random.Random) -> Record:
  """A random record."""
  return records.draw(generator) | {"mark": generator.choice(MARKS)}


@functools.cache
def shared_records() -> tuple[Record, ...]:
  """What all rules are trained on.

  A record of a rule's own would tell the rule, and that is sooner learnt than to
  compare. Each is there by day and by night, so that its words do not tell the mark.
  """
  drawn = records.different(records.draw, "signed train", NUM_RECORDS // 2)
  return tuple(record | {"mark": mark} for record in drawn for mark in MARKS)


MAKER = records.Maker(draw, line, "signed ", shared_records)
