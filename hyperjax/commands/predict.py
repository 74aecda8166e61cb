"""`hyperjax predict`: a file of answers, which grows as they are made."""

import argparse
import dataclasses
import functools
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hyperjax
from hyperjax import paths
from hyperjax.commands import (
  answer_scores,
  counter,
  decoding_options,
  model_options,
  reading_options,
)
from hyperjax.scores.answer_rows import PREDICTION

if TYPE_CHECKING:
  from hyperjax.artifacts import adapter_folder
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving import answering_t5
  from hyperjax.serving.inputs import Question

_AT_HAND = 64  # adapters kept in memory
_STANDARD = pathlib.Path("-")  # input, or output


def add_arguments(parser: argparse.ArgumentParser) -> None:
  model_options.add(
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
    help=f"{reading_options.FORMATS}: rows with an 'input', and maybe 'adapter', "
    "'output', 'choices' and more; or .txt with an input on each line",
  )
  reading_options.add(parser)
  parser.add_argument(
    "--out",
    required=True,
    type=paths.argument,
    metavar="FILE",
    help="JSON lines: each input's fields with its 'prediction'; a file that "
    "was begun with the same options is continued; - is standard output",
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="begin the file anew"
  )
  decoding_options.add(parser)
  parser.add_argument(
    "--scores",
    action="store_true",
    help="add log-likelihoods of the prediction and of 'choices'; that of "
    "'output' is always there",
  )


def run(arguments: argparse.Namespace) -> None:
  """Answers what the arguments name, batch by batch.

  Raises:
    ValueError: a file or an adapter is broken or does not fit.
  """
  from hyperjax.serving import growing_file, inputs, tables  # import jax

  options = decoding_options.read(arguments)
  held = tables.content(arguments.inputs)
  fields = reading_options.read(arguments)
  questions, notes, doubts = inputs.read_noted(arguments.inputs, fields, held)
  reading_options.warn("predict", doubts)
  own = _Adapters(questions, arguments.adapter)
  model = _model(arguments, own)
  own.check(model)
  settings = _settings(arguments, own, options, model)
  settings |= _of_inputs(held, questions, arguments)
  file = growing_file.opened(arguments.out, settings, arguments.overwrite)
  found = _done(file.lines, questions, arguments.out)
  say = functools.partial(_say, arguments.out)
  if found:
    are = "answer is" if len(found) == 1 else "answers are"
    say(f"{arguments.out}: {len(found)} {are} there already")
  is_whole = len(found) == len(questions)
  if not is_whole:
    # A batch is made whole again, in its very shapes.
    found = found[: len(found) - len(found) % options.batch_size]
    model.backbone.place()
  file.begin(len(found))  # what a kill left behind them goes
  cut: list[int] = []
  with counter.counted("answers", len(questions), len(found)) as add:
    for first in range(len(found), len(questions), options.batch_size):
      some = questions[first : first + options.batch_size]
      asked = _Asked(some, own.of(first, len(some)), first)
      rows, lines = _answer(model, asked, options, arguments.scores)
      file.add(rows)
      found += rows
      cut += lines
      add(len(rows))
  file.flush()
  if not is_whole:
    is_plain = bool(model.backbone.unused) and not own.infos
    name = _shown(arguments.out)
    plural = "" if len(questions) == 1 else "s"
    lines = [f"{name}: {len(questions)} answer{plural}"]
    lines += _notes(model, is_plain, cut)
    lines += [f"  note: {'; '.join(notes)}"] if notes else []
    lines += answer_scores.unwritable(questions, model, arguments.scores)
    say("\n".join(lines))
  for line in answer_scores.figures(_shown(arguments.out), found):
    say(line)


def _model(
  arguments: argparse.Namespace, own: "_Adapters"
) -> "answering_t5.AnsweringT5":
  from hyperjax.commands import compiled
  from hyperjax.serving import answering_t5, backbone

  lengths = {"inputs": arguments.input_length, "targets": arguments.max_length}
  compiled.keep()
  return answering_t5.AnsweringT5(
    backbone.load(
      arguments.model,
      arguments.backbone,
      arguments.vocabulary,
      lengths,
      own.infos,
      quantization=arguments.quantization,
    )
  )


def _shown(out: pathlib.Path) -> str:
  return "standard output" if out == _STANDARD else str(out)


def _say(out: pathlib.Path, line: str) -> None:
  """Prints a line, but not among answers."""
  print(line, file=sys.stderr if out == _STANDARD else None, flush=True)


def _notes(
  model: "answering_t5.AnsweringT5", is_plain: bool, cut: Sequence[int]
) -> list[str]:
  """What is to be known of answers."""
  from hyperjax.serving import remarks

  found = []
  if is_plain:
    found.append(
      "  of the plain T5: `hyperjax adapter save` makes what "
      f"{model.backbone.unused} trained usable as --adapter"
    )
  if cut:
    found.append(
      f"  {len(cut)} input{' was' if len(cut) == 1 else 's were'} cut to "
      f"{model.lengths.inputs} tokens{remarks.at(cut)}"
    )
  return found


def _settings(
  arguments: argparse.Namespace,
  own: "_Adapters",
  options: "answering_t5.Options",
  model: "answering_t5.AnsweringT5",
) -> dict[str, Any]:
  """All that decides the answers, as JSON."""
  from hyperjax.models import quantizing

  quantization = model.backbone.config.quantization
  is_plain = quantization == quantizing.NONE
  return {
    # Not of a file that an earlier version began.
    **({} if is_plain else {"quantization": quantization}),
    "hyperjax": hyperjax.__version__,
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


def _of_inputs(
  held: bytes, questions: "Sequence[Question]", arguments: argparse.Namespace
) -> dict[str, Any]:
  """What decides the answers of the file of inputs; None as earlier versions."""
  named = [arguments.input_field, arguments.output_field]
  has_outputs = any(question.output is not None for question in questions)
  return {
    "inputs_sha256": hashlib.sha256(held).hexdigest(),
    "fields": named if any(named) else None,
    # With --scores they always had one.
    "output_scores": (has_outputs and not arguments.scores) or None,
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
) -> tuple[list[dict[str, Any]], list[int]]:
  """Rows of each question's fields and what was found; lines of inputs cut."""
  from hyperjax.serving import broken_rows

  texts = [question.input for question in asked.questions]
  try:
    found = model.answer(texts, asked.adapters, options, asked.first)
    rows = [
      _own_fields(question.fields) | {PREDICTION: text}
      for question, text in zip(asked.questions, found.texts, strict=True)
    ]
    answer_scores.add(
      model,
      asked.questions,
      asked.adapters,
      found.tokens,
      rows,
      options.batch_size,
      has_scores,
    )
  except broken_rows.NotFinite as error:
    lines = [f"line {question.line}" for question in asked.questions]
    raise error.of(lines) from error
  return rows, [asked.questions[i].line for i in found.cut]


def _own_fields(fields: dict[str, Any]) -> dict[str, Any]:
  """A line's fields without those that an answer adds."""
  return {
    name: x for name, x in fields.items() if name not in answer_scores.ADDED
  }


class _Adapters:
  """The adapter of each question, read when it is needed."""

  def __init__(self, questions: "Sequence[Question]", default: str | None):
    from hyperjax.artifacts import adapter_folder

    self._named = [question.adapter or default for question in questions]
    named_at: dict[str | None, str] = {}
    for name, question in zip(self._named, questions, strict=True):
      is_own = question.adapter or name is None
      where = f"line {question.line}" if is_own else "--adapter"
      named_at.setdefault(name, where)
    if None in named_at and len(named_at) > 1:
      raise ValueError(
        f"{named_at[None]} names no adapter and others do; --adapter "
        "says which one such lines get"
      )
    self._infos = {}
    for name, where in named_at.items():
      if name is not None:
        try:
          self._infos[name] = adapter_folder.read_info(name)
        except ValueError as error:
          raise ValueError(f"{where}: {error}") from error

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
) -> list[dict[str, Any]]:
  """The answers that are there, each of its own question."""
  from hyperjax.data import files, json_text

  if len(lines) > len(questions):
    raise ValueError(
      f"{out} has {len(lines)} lines, there are {len(questions)} inputs; "
      "--overwrite begins anew"
    )
  found = []
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
    found.append(row)
  return found
