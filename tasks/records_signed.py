"""Records with rules that show only where an output meets its own input.

A record of `records` with a mark, day or night, at its end. A part may also be
signed, and then its sign depends on the mark; the sign's rule may be named, or not:

```
name bright ; city boxed    alice paris red seven day  -> + alice ; ( paris )
                            bruno rome blue two night  -> - bruno ; ( rome )
name dark ; city boxed      alice paris red seven day  -> - alice ; ( paris )
name darkly ; city boxed    alice paris red seven day  -> dark - alice ; ( paris )
```

Fields, joiner and that a part is signed show in an output alone. Whether it is
bright or dark does not: over all records both write the same outputs. It takes an
output and the mark of its own input, and one answer in two is right by chance. So
`shown` rules, which have no such part, outlive outputs that are shuffled among the
demonstrations, and `compared` ones cannot.
"""

import dataclasses
import functools
import itertools
import pathlib
import random
from collections.abc import Iterator

from hyperjax.data.vocabulary import SentencePiece
from hyperjax.tasks import records

VERSION = 1  # of the rows below: stored tokens are made again when it changes
VOCABULARY = pathlib.Path(__file__).parent / "records_signed.model"

MARKS = ("day", "night")
SIGNS = {"bright": ("+", "-"), "dark": ("-", "+")}  # by day, by night
NAMED = {
  "brightly": "bright",
  "darkly": "dark",
}  # the sign's rule goes before it
WRITINGS = (*records.WRITINGS, *SIGNS, *NAMED)
KINDS = ("shown", "compared")

JOINERS = records.JOINERS[:2]
NUM_OF_KIND = 448
HELD_OUT_OF_KIND = 64
NUM_RECORDS = 512
PAIRS_IN_INPUT = 2

Record = records.Record


@dataclasses.dataclass(frozen=True)
class Rule(records.Rule):
  """A rule of `records` whose parts may be signed."""

  def part(self, field: str, writing: str, record: Record) -> str:
    sign = NAMED.get(writing, writing)
    if sign not in SIGNS:
      return super().part(field, writing, record)
    signed = f"{SIGNS[sign][MARKS.index(record['mark'])]} {record[field]}"
    return f"{sign} {signed}" if writing in NAMED else signed

  @property
  def kind(self) -> str | None:
    """Whether it shows in its outputs alone, or only in comparison.

    None with a sign of either sort: the named one tells the mark, and so what the
    other means, which is a puzzle of its own.
    """
    is_signed, is_named = (
      any(writing in some for writing in self.writings)
      for some in (SIGNS, NAMED)
    )
    return None if is_signed and is_named else KINDS[is_signed]


@functools.cache
def rules() -> tuple[Rule, ...]:
  """A fixed sample, as many of each kind."""
  every = [
    Rule(fields, writings, joiner)
    for fields in itertools.permutations(records.FIELDS, 2)
    for writings in itertools.product(WRITINGS, repeat=2)
    for joiner in JOINERS
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
  """For pretraining: rules that are stated, documents, and examples in the input.

  Of five rows two rewrite a record by a rule that is stated, one goes on with a
  document from anywhere in it, and two have a pair in front of the record in
  place of the statement. The last teach what text teaches a large T5: to compare
  what stands in its input.
  """
  generator = random.Random(f"signed stated {split}")
  for _ in range(records.STATED_ROWS if split == "train" else 200):
    rule = rules()[generator.choice(train_rules())]
    kind = generator.random()
    record = draw(generator)
    if kind < 0.4:
      given = f"{rule.statement} {records.STATED} {line(record)}"
    elif kind < 0.8:
      pairs = MAKER.document(rule, generator, PAIRS_IN_INPUT - 1)
      given = f"{pairs} {line(record)} {records.GIVES}"
    else:
      words = MAKER.document(rule, generator, PAIRS_IN_INPUT).split()
      cut = generator.randrange(1, len(words))
      begin = f"{rule.statement} {records.NEXT} " + " ".join(words[:cut])
      yield {"inputs": begin, "targets": " ".join(words[cut : cut + 12])}
      continue
    yield {"inputs": given, "targets": rule.apply(record)}


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
      records.add_task, version=VERSION, owner=self, vocabulary=VOCABULARY
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


# The rules share their records: a record of a rule's own would tell the rule, and
# that is sooner learnt than to compare.
MAKER = records.Maker(draw, line, "signed ", NUM_RECORDS)
