"""`hyperjax predict`: a file of answers, which grows as they are made."""

import argparse
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hyperjax
from hyperjax import paths
from hyperjax.commands import adapt, decoding_options

if TYPE_CHECKING:
  from hyperjax.artifacts import adapter_folder
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving import answering_t5
  from hyperjax.serving.inputs import Question

_AT_HAND = 64  # adapters kept in memory
_DIGITS = 6  # of log-likelihoods
PREDICTION, SCORE = "prediction", "log_likelihood"
OUTPUT_SCORE, CHOICE_SCORES = "output_log_likelihood", "choice_log_likelihoods"
_ADDED = (PREDICTION, SCORE, OUTPUT_SCORE, CHOICE_SCORES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  adapt.add_model(
    parser, "a run folder, of whatever it trained, or that of a T5"
  )
  parser.add_argument(
    "--adapter",
    metavar="FOLDER",
    help="of lines that name none; without any, the plain T5 answers",
  )
  parser.add_argument(
    "--inputs",
    required=True,
    type=paths.argument,
    metavar="FILE",
    help="JSON lines with 'input', and maybe 'adapter', 'output', 'choices' "
    "and more, or .txt with an input on each line",
  )
  parser.add_argument(
    "--out",
    required=True,
    type=paths.argument,
    metavar="FILE",
    help="JSON lines: each input's fields with its 'prediction'; a file that "
    "was begun with the same options is continued",
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="begin the file anew"
  )
  decoding_options.add(parser)
  parser.add_argument(
    "--scores",
    action="store_true",
    help="add log-likelihoods: of the prediction, of 'output', of 'choices'",
  )


def run(arguments: argparse.Namespace) -> None:
  """Answers what the arguments name, batch by batch.

  Raises:
    ValueError: a file or an adapter is broken or does not fit.
  """
  from hyperjax.commands import compiled
  from hyperjax.serving import (  # import jax
    answering_t5,
    backbone,
    growing_file,
    inputs,
  )

  options = decoding_options.read(arguments)
  lengths = {"inputs": arguments.input_length, "targets": arguments.max_length}
  questions = inputs.read(arguments.inputs)
  own = _Adapters(questions, arguments.adapter)
  compiled.keep()
  model = answering_t5.AnsweringT5(
    backbone.load(
      arguments.model,
      arguments.backbone,
      arguments.vocabulary,
      lengths,
      own.infos,
    )
  )
  own.check(model)
  file = growing_file.GrowingFile(
    arguments.out,
    _settings(arguments, own, options, model),
    arguments.overwrite,
  )
  done = _done(file.lines, questions, arguments.out)
  if done:
    print(f"{arguments.out}: {done} answers are there already", flush=True)
  if done == len(questions):
    file.begin(done)  # what a kill left behind them goes
    return
  size, num_cut = options.batch_size, 0
  done -= done % size  # a batch is made whole again, in its very shapes
  model.backbone.place()
  file.begin(done)
  for first in range(done, len(questions), size):
    some = questions[first : first + size]
    asked = _Asked(some, own.of(first, len(some)), first)
    rows, cut = _answer(model, asked, options, arguments.scores)
    file.add(rows)
    num_cut += cut
  file.flush()
  print(f"{arguments.out}: {len(questions)} answers", flush=True)
  is_plain = bool(model.backbone.unused) and not own.infos
  _tell(model, is_plain, num_cut)
  if arguments.scores:
    _tell_unwritable(questions, model)


def _tell(
  model: "answering_t5.AnsweringT5", is_plain: bool, num_cut: int
) -> None:
  """Says what is to be known of answers."""
  if is_plain:
    print(
      "  of the plain T5: `hyperjax adapter save` makes what "
      f"{model.backbone.unused} trained usable as --adapter"
    )
  if num_cut:
    print(f"  {num_cut} inputs were cut to {model.lengths.inputs} tokens")


def _tell_unwritable(
  questions: "Sequence[Question]", model: "answering_t5.AnsweringT5"
) -> None:
  """Says what the tokenizer cannot write of what is scored."""
  from hyperjax.serving import remarks

  scored = [text for question in questions for text in _outputs(question)]
  tokens = [token for text in scored for token in model.encode(text)]
  for line in remarks.unwritable(model.vocabulary, scored, tokens):
    print(f"  {line}, of the outputs and choices that are scored")


def _settings(
  arguments: argparse.Namespace,
  own: "_Adapters",
  options: "answering_t5.Options",
  model: "answering_t5.AnsweringT5",
) -> dict[str, Any]:
  """All that decides the answers, as JSON."""
  with open(paths.fetched(arguments.inputs), "rb") as file:
    content = hashlib.file_digest(file, "sha256").hexdigest()
  return {
    "hyperjax": hyperjax.__version__,
    "inputs_sha256": content,
    "adapter": arguments.adapter,
    "adapters": own.identities,
    "backbone": model.backbone.identity,
    "tokenizer": model.vocabulary.identity,
    "input_length": model.lengths.inputs,
    "decoder": {
      "kind": type(options.decoder).__name__,
      **dataclasses.asdict(options.decoder),
    },
    "max_length": options.max_length or model.lengths.targets,
    "batch_size": options.batch_size,
    "seed": options.seed,
    "scores": arguments.scores,
  }


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A batch of questions with their adapters, or one for all of them."""

  questions: "Sequence[Question]"
  adapters: "Sequence[Adapter | None]"
  first: int  # number of the first


def _answer(
  model: "answering_t5.AnsweringT5",
  asked: _Asked,
  options: "answering_t5.Options",
  has_scores: bool,
) -> tuple[list[dict[str, Any]], int]:
  """Rows of each question's fields and what was found; how many were cut."""
  from hyperjax.serving import broken_rows

  texts = [question.input for question in asked.questions]
  try:
    found = model.answer(texts, asked.adapters, options, asked.first)
    rows = [
      _own_fields(question.fields) | {PREDICTION: text}
      for question, text in zip(asked.questions, found.texts, strict=True)
    ]
    if has_scores:
      _score(model, asked, options, found.tokens, rows)
  except broken_rows.NotFinite as error:
    lines = [f"line {question.line}" for question in asked.questions]
    raise error.of(lines) from error
  return rows, found.num_cut


def _score(
  model: "answering_t5.AnsweringT5",
  asked: _Asked,
  options: "answering_t5.Options",
  predicted: Sequence[Sequence[int]],
  rows: Sequence[dict[str, Any]],
) -> None:
  """Adds log-likelihoods to rows, all of a row's from one pass."""
  outputs = [
    [tokens, *map(model.encode, _outputs(question))]
    for tokens, question in zip(predicted, asked.questions, strict=True)
  ]
  texts = [question.input for question in asked.questions]
  scores = model.score(texts, asked.adapters, outputs, options.batch_size)
  for row, question, found in zip(rows, asked.questions, scores, strict=True):
    row[SCORE], *others = [round(score, _DIGITS) for score in found]
    if question.output is not None:
      row[OUTPUT_SCORE] = others.pop(0)
    if question.choices:
      row[CHOICE_SCORES] = others


def _outputs(question: "Question") -> list[str]:
  """The texts that are scored besides the prediction."""
  own = [] if question.output is None else [question.output]
  return [*own, *question.choices]


def _own_fields(fields: dict[str, Any]) -> dict[str, Any]:
  """A line's fields without those that an answer adds."""
  return {name: x for name, x in fields.items() if name not in _ADDED}


class _Adapters:
  """The adapter of each question, read when it is needed."""

  def __init__(self, questions: "Sequence[Question]", default: str | None):
    from hyperjax.artifacts import adapter_folder

    self._named = [question.adapter or default for question in questions]
    first_line: dict[str | None, int] = {}
    for name, question in zip(self._named, questions, strict=True):
      first_line.setdefault(name, question.line)
    if None in first_line and len(first_line) > 1:
      raise ValueError(
        f"line {first_line[None]} names no adapter and others do; --adapter "
        "says which one such lines get"
      )
    self._infos = {}
    for name, line in first_line.items():
      if name is not None:
        try:
          self._infos[name] = adapter_folder.read_info(name)
        except ValueError as error:
          raise ValueError(f"line {line}: {error}") from error

    @functools.lru_cache(_AT_HAND)
    def read(name: str) -> "Adapter":
      return adapter_folder.read(name)

    self._read = read

  @property
  def identities(self) -> dict[str, str]:
    """Hash of each adapter's arrays, by its folder as given."""
    return {name: found for name, (_, found) in sorted(self._infos.items())}

  @property
  def infos(self) -> "list[adapter_folder.Info]":
    """What each adapter says of itself."""
    return [info for info, _ in self._infos.values()]

  def check(self, model: "answering_t5.AnsweringT5") -> None:
    """Refuses adapters that do not fit the model."""
    for name, (info, _) in self._infos.items():
      model.backbone.check(info, name)

  def of(self, first: int, count: int) -> "list[Adapter | None]":
    """Of each of `count` questions, or one for all where the file has one."""
    if len(self._infos) < 2:
      return [self._read(name) for name in self._infos] or [None]
    names = self._named[first : first + count]
    return [self._read(name) for name in names if name is not None]


def _done(
  lines: "Sequence[bytes]", questions: "Sequence[Question]", out: pathlib.Path
) -> int:
  """How many answers are there, each of its own question."""
  from hyperjax.data import files, json_text

  if len(lines) > len(questions):
    raise ValueError(
      f"{out} has {len(lines)} lines, there are {len(questions)} inputs; "
      "--overwrite begins anew"
    )
  for number, (line, question) in enumerate(
    zip(lines, questions, strict=False), 1
  ):
    where = f"{out}, line {number}"
    row = json_text.parsed(where, line)
    files.field(row, PREDICTION, where)
    if json.dumps(_own_fields(row)) != json.dumps(_own_fields(question.fields)):
      raise ValueError(
        f"{out}, line {number}, does not answer input line {question.line}"
      )
  return len(lines)
