"""What is odd about the examples that somebody gives: one short text for each kind.

None of it is an error. Each names the lines that it is about.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hyperjax.serving.examples import Example, copies

if TYPE_CHECKING:
  from hyperjax.data.vocabulary import Tokenizer
  from hyperjax.serving.answering_t5 import AnsweringT5

_MOST_LINES = 8  # that are named of one kind, ranges as one


def of(model: "AnsweringT5", examples: Sequence[Example]) -> list[str]:
  """What is odd about the examples of one task, for a model that reads them."""
  found = [
    *_unknown(model.vocabulary, examples),
    *_blank(examples),
    *_repeated(examples),
    *_cut(model, examples),
  ]
  if len(examples) > 1 and len({example.output for example in examples}) == 1:
    found.append("all outputs are the same")
  return found


def lines(numbers: Iterable[int]) -> str:
  """Lines of a file in few words, such as "lines 3, 6-100"; of none nothing.

  Examples that were not read from a file have no line.
  """
  spans: list[list[int]] = []
  for number in sorted({x for x in numbers if x}):
    if spans and number == spans[-1][1] + 1:
      spans[-1][1] = number
    else:
      spans.append([number, number])
  shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in spans[:_MOST_LINES]]
  if not shown:
    return ""
  more = " and others" if len(spans) > _MOST_LINES else ""
  is_one = len(spans) == 1 and spans[0][0] == spans[0][1]
  return f"{'line' if is_one else 'lines'} {', '.join(shown)}{more}"


def at(numbers: Iterable[int]) -> str:
  """The same in brackets, to stand behind what the lines have."""
  shown = lines(numbers)
  return f" ({shown})" if shown else ""


def unwritable(
  vocabulary: "Tokenizer", texts: Iterable[str], tokens: Iterable[int]
) -> list[str]:
  """What a tokenizer cannot write of texts, whose ids are `tokens`."""
  unknown, lost = _counts(vocabulary, texts, tokens)
  found = []
  if unknown:
    are = "token is" if unknown == 1 else "tokens are"
    found.append(f"{unknown} {are} unknown to the model's tokenizer")
  if lost:
    are = (
      "character of whitespace is"
      if lost == 1
      else "characters of whitespace are"
    )
    found.append(
      f"{lost} {are} lost in the model's tokenizer: line breaks, tabs, or spaces "
      "at an end or beside others"
    )
  return found


def _counts(
  vocabulary: "Tokenizer", texts: Iterable[str], tokens: Iterable[int]
) -> tuple[int, int]:
  """How many tokens are unknown, and how many characters of white space lost."""
  unknown = vocabulary.unknown_id
  return (
    sum(int(token) == unknown for token in tokens),
    sum(map(vocabulary.lost_whitespace, texts)),
  )


def _unknown(
  vocabulary: "Tokenizer", examples: Sequence[Example]
) -> Iterator[str]:
  """What the tokenizer cannot write, of all examples together."""
  pairs = [(x.line, text) for x in examples for text in (x.input, x.output)]
  ids = [vocabulary.encode(text) for _, text in pairs]
  counts = [
    _counts(vocabulary, [text], own)
    for (_, text), own in zip(pairs, ids, strict=True)
  ]
  every = unwritable(
    vocabulary, (text for _, text in pairs), (i for own in ids for i in own)
  )
  kinds = [kind for kind in (0, 1) if any(x[kind] for x in counts)]
  for kind, said in zip(kinds, every, strict=True):
    where = [i for i, own in enumerate(counts) if own[kind]]
    yield said + at(pairs[i][0] for i in where)


def _blank(examples: Sequence[Example]) -> Iterator[str]:
  """Inputs that are empty, as where a cell was left out."""
  blank = [x.line for x in examples if not x.input.strip()]
  if blank:
    yield f"{_are(blank, 'input')} blank" + at(blank)


def _repeated(examples: Sequence[Example]) -> Iterator[str]:
  """Examples that are given twice, and inputs with several outputs."""
  twice = copies(examples)
  by_input: dict[str, set[str]] = {}
  for example in examples:
    by_input.setdefault(example.input, set()).add(example.output)
  if twice:
    yield f"{_are(twice, 'example')} given twice" + at(x.line for x in twice)
  several = {text for text, outputs in by_input.items() if len(outputs) > 1}
  if several:
    have = "input has" if len(several) == 1 else "inputs have"
    where = (x.line for x in examples if x.input in several)
    yield f"{len(several)} {have} several outputs" + at(where)


def _cut(model: "AnsweringT5", examples: Sequence[Example]) -> Iterator[str]:
  """Inputs that the T5 reads without their end, outputs that it cannot finish."""
  lengths: Any = model.lengths
  inputs = [x.line for x in examples if model.read(x.input).is_cut]
  if inputs:
    yield (
      f"{_are(inputs, 'input')} cut to the {lengths.inputs} tokens that the T5 "
      "reads" + at(inputs)
    )
  outputs = [
    x.line for x in examples if len(model.encode(x.output)) > lengths.targets
  ]
  if outputs:
    yield (
      f"{_are(outputs, 'output')} longer than the {lengths.targets} tokens of an "
      "answer, so the T5 cannot give them" + at(outputs)
    )


def _are(some: Sequence[Any], noun: str) -> str:
  return f"1 {noun} is" if len(some) == 1 else f"{len(some)} {noun}s are"
