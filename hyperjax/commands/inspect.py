"""Contexts as text: what the models of a run see of its data.

Every text is decoded from the ids that `source[i]` holds, trimmed and with
demonstrations dropped, and every length counts those ids.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax import checks
from hyperjax.batch import Context, Lengths, sequences
from hyperjax.commands import arguments
from hyperjax.data import episodes, feed, instructions, joining, pairs, text
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.sources import Data, FewShotEpisodes, TaskSet
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.data.store.store import Task
from hyperjax.data.vocabulary import Vocabulary
from hyperjax.models import problems

_ONE_LINE = 72  # characters of a demonstration that is not broken before "->"


@dataclasses.dataclass(frozen=True)
class Paint:
  """ANSI colours, or none of them."""

  is_on: bool

  @classmethod
  def of_terminal(cls) -> "Paint":
    """On where stdout is a terminal and NO_COLOR is not set."""
    return cls(sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

  def title(self, words: str) -> str:
    return self._in("1", words)

  def note(self, words: str) -> str:
    return self._in("2", words)

  def warning(self, words: str) -> str:
    return self._in("33", words)

  def answer(self, words: str) -> str:
    return self._in("32", words)

  def _in(self, code: str, words: str) -> str:
    return f"\033[{code}m{words}\033[0m" if self.is_on and words else words


class AnyProblem(problems.Problem):
  """Stands for what a run trains where its data alone is looked at."""

  def init(self, key: Any) -> tuple[Any, Any]:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Inspect:
  """Prints contexts `start` to `start + num - 1` of a run's training data."""

  data: Data
  seed: checks.Seed = 0
  start: checks.Position = 0
  num: checks.Count = 3

  def __post_init__(self):
    checks.fields(self)

  def execute(self, config: str = "") -> None:
    del config
    source, paint = self.data.open(self.seed), Paint.of_terminal()
    write(
      line
      for index in range(self.start, self.start + self.num)
      for line in [*context_lines(source, index, paint), ""]
    )


def of_run(data: Data, seed: int, options: argparse.Namespace) -> Inspect:
  """What shows a run's data by options of the command line.

  Raises:
    ValueError: an option is given that is for a task's episodes.
  """
  for option in arguments.OF_TASK:
    if getattr(options, option.removeprefix("--")) is not None:
      raise ValueError(
        f"{option} is for `hyperjax inspect TASK`; without TASK a run's data "
        "is shown as its gin files describe it"
      )
  return Inspect(data, seed, options.start, options.num)


def of_task(
  task_sets: Sequence[SeqioTasks], options: argparse.Namespace
) -> Inspect:
  """What shows episodes of `options.task`, one of the task sets' providers'."""
  own = next((some for some in task_sets if some.providers), task_sets[0])
  own = dataclasses.replace(
    own, mixture_or_task=options.task, split=options.split or own.split
  )
  data = few_shot(own, options.lengths, options.num_demonstrations)
  return Inspect(data, 0, options.start, options.num)


def few_shot(
  tasks: TaskSet,
  lengths: Mapping[str, int] | None,
  num_demonstrations: tuple[int, int] | None,
) -> FewShotEpisodes:
  """Episodes of tasks by options of the command line, None for defaults.

  Args:
    tasks: what the episodes are of.
    lengths: of features; what is not named has its default.
    num_demonstrations: at least and at most.
  """
  episodes = FewShotEpisodes(tasks, arguments.LENGTHS | dict(lengths or {}))
  if num_demonstrations is None:
    return episodes
  return dataclasses.replace(episodes, num_demonstrations=num_demonstrations)


def write(lines: Iterable[str]) -> None:
  """Prints lines until the reader has had enough, as `head` soon has."""
  try:
    for line in lines:
      print(line)
    sys.stdout.flush()
  except BrokenPipeError:
    # Python would flush once more at its end, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def context_lines(source: feed.Source, index: int, paint: Paint) -> list[str]:
  """One context of a source, a line each.

  Of a source that is none of ours only the context itself is known.
  """
  context, name = source[index], f"context {index}"
  match source:
    case episodes.Episodes():
      return _episode(source, index, context, paint)
    case text.Caclm():
      return _window(source, index, context, paint)
    case pairs.Pairs():
      task, row = source.row(index)
      page = _Page(_title(name, task), task.vocabulary, paint)
      page.rows(context, source.lengths, task, [row])
    case pairs.SideBySide():
      task, rows = source.rows(index)
      page = _Page(_title(name, task), task.vocabulary, paint)
      readers = source.instruction_readers
      page.rows(context, source.lengths, task, rows, readers)
    case text.PrefixLm():
      task, _ = source.window(index)
      page = _Page(_title(name, task), task.vocabulary, paint)
      page.rows(context, source.lengths)
    case _:
      page = _Page(name, source.tasks[0].vocabulary, paint)
      if context.demonstrations is not None:
        limit = source.lengths.demonstrations
        read = sequences(context.demonstrations)
        page.part("demonstrations", np.concatenate(read), limit)
      page.rows(context, source.lengths)
  return page.lines


def _title(name: str, task: Task) -> str:
  return f"{name}: {task.name}, split {task.split}"


def _episode(
  source: episodes.Episodes, index: int, context: Context, paint: Paint
) -> list[str]:
  episode = source.episode(index)
  assert context.demonstrations is not None
  read = sequences(context.demonstrations)
  ids = np.concatenate(read) if read else np.zeros(0, np.int32)
  task, pool, _ = source.read_as(episode)
  rows, dropped = episode.demonstrations, episode.num_dropped
  warnings = []
  if dropped:
    warnings.append(f"{dropped} dropped for lack of room")
  too_long = source.num_too_long(episode.task)
  if too_long:
    warnings.append(
      f"{too_long:,} of the task's {len(pool.rows):,} rows too long to be drawn"
    )
  page = _Page(_title(f"context {index}", task), task.vocabulary, paint)
  notes = [f"{len(rows)} of {len(rows) + dropped} drawn"]
  if pool.split != task.split:
    notes.append(f"from split {pool.split}")
  if episode.relabelling is not None:
    notes.append(f"labels replaced ({episode.relabelling.kind})")
  limit = source.lengths.demonstrations
  if source.lengths.are_separate:
    notes.append(f"each read by itself, {limit:,} tokens at most")
    limit = None
  page.head("demonstrations", ids, limit, notes, warnings)
  instruction = source.instruction(episode)
  if len(instruction):
    whole = None if pool.instruction is None else len(pool.instruction) + 1
    page.part("instruction (read first)", instruction, None, whole)
  cut = joining.split_joined(pool, rows, ids[len(instruction) :])
  for row, (given, answer) in zip(rows, cut, strict=True):
    page.demonstration(int(row), given, answer)
  readers = source.few_shot.instruction_readers
  page.rows(context, source.lengths, task, episode.targets.tolist(), readers)
  return page.lines


def _window(
  source: text.Caclm, index: int, context: Context, paint: Paint
) -> list[str]:
  task, (a, _, _, d) = source.parts(index)
  assert context.demonstrations is not None
  ids = np.concatenate(sequences(context.demonstrations))
  page = _Page(_title(f"context {index}", task), task.vocabulary, paint)
  notes = ["A and D, an end of sequence after each"]
  page.head("demonstrations", ids, source.lengths.demonstrations, notes)
  second = len(a) + 1  # where `Caclm` has joined D to A
  page.part("A", ids[: len(a)])
  page.part("B (inputs)", context.inputs[0], source.lengths.inputs)
  page.part("C (targets)", context.targets[0], source.lengths.targets)
  page.part("D", ids[second : second + len(d)])
  return page.lines


class _Page:
  """The lines of one context: names with lengths, texts below them."""

  def __init__(self, title: str, own: Vocabulary | None, paint: Paint):
    self._vocabulary, self._paint = own, paint
    self.lines = [paint.title(title)]

  def head(
    self,
    name: str,
    ids: np.ndarray,
    limit: int | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
  ) -> None:
    tokens = "1 token" if len(ids) == 1 else f"{len(ids):,} tokens"
    if limit is not None:
      tokens += f" of at most {limit:,}"
    facts = [self._paint.note(", ".join([tokens, *notes]))]
    facts += [self._paint.warning(warning) for warning in warnings]
    self.lines.append(f"  {self._paint.title(name)}: {', '.join(facts)}")

  def part(
    self,
    name: str,
    ids: np.ndarray,
    limit: int | None = None,
    whole: int | None = None,
  ) -> None:
    """A text under its name; it had `whole` tokens before it was cut."""
    is_cut = whole is not None and whole > len(ids)
    self.head(name, ids, limit, (), [f"cut from {whole:,}"] if is_cut else ())
    words = self._decode(ids)
    if TARGETS in name:
      words = self._paint.answer(words)
    self.lines.append(f"    {words or self._paint.note('(no text)')}")

  def demonstration(
    self, row: int, given: np.ndarray, answer: np.ndarray
  ) -> None:
    before, after = self._decode(given), self._decode(answer)
    is_short = len(before) + len(after) <= _ONE_LINE
    name = self._paint.note(f"row {row}:")
    output = f"-> {self._paint.answer(after)}"
    if is_short:
      self.lines.append(f"    {name} {before} {output}")
    else:
      self.lines += [f"    {name} {before}", f"      {output}"]

  def rows(
    self,
    context: Context,
    lengths: Lengths,
    task: Task | None = None,
    rows: Sequence[int] = (),
    readers: Sequence[str] = (),
  ) -> None:
    """Inputs and targets of a context; of which rows, where that is known.

    `readers` are those of the task's instruction.
    """
    for i, both in enumerate(zip(context.inputs, context.targets, strict=True)):
      number = f" {i + 1}" if len(context.inputs) > 1 else ""
      for feature, ids in zip((INPUTS, TARGETS), both, strict=True):
        name, whole = feature + number, None
        limit = getattr(lengths, feature)
        if task is not None:
          row_ids = task.rows.row(rows[i], feature)
          if feature == INPUTS:
            row_ids = instructions.for_backbone(task, row_ids, readers, limit)
          whole = len(row_ids)
          name += f", row {rows[i]}" if feature == INPUTS else ""
        self.part(name, ids, limit, whole)

  def _decode(self, ids: np.ndarray) -> str:
    return decode(self._vocabulary, ids)


def decode(own: Vocabulary | None, ids: Iterable[int]) -> str:
  """All of `ids` as one line; the ids themselves without a vocabulary.

  A final end of sequence is left out, one inside is shown as </s>. Characters
  that a terminal would obey are escaped.
  """
  known = [int(i) for i in ids]
  if own is None:
    return " ".join(map(str, known))
  if known and known[-1] == own.eos_id:
    known.pop()
  parts, part = [], []
  for i in known:
    if i == own.eos_id:
      parts.append(own.decode(part))
      part = []
    else:
      part.append(i)
  words = " </s> ".join([*parts, own.decode(part)])
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode() for c in words
  )
