"""What an evaluation asks: targets under contexts, and the texts of both."""

import dataclasses
import hashlib
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from hyperjax.batch import Context, Lengths
from hyperjax.data import episodes, instructions, joining, order, reading
from hyperjax.data.sources import check_room, check_tasks, evenly_spaced
from hyperjax.data.store.store import Task
from hyperjax.evaluation import rank, relabelled, texts
from hyperjax.evaluation.answering import conditions
from hyperjax.evaluation.asked import Asked
from hyperjax.models.problems import Problem
from hyperjax.scores import columns
from hyperjax.scores.columns import OTHER, RIGHT, ROTATED
from hyperjax.scores.results import Answer

_log = logging.getLogger(__name__)
# In the keys of random draws; they never change, or evaluations would.
_DRAWS = {RIGHT: 0, OTHER: 2}


@dataclasses.dataclass(frozen=True)
class Unit:
  """Targets of one task that are answered under one context, in one way."""

  task: int
  other: int
  draw: int
  rows: np.ndarray
  is_ranked: bool = False  # or decoded


class Questions:
  """The units of an evaluation, their demonstrations and their texts.

  Raises:
    ValueError: a task has no demonstrations, or none that fit; tasks differ in
      their vocabularies, or were stored without what scoring needs.
  """

  def __init__(self, evaluation: Asked, problem: Problem):
    self._evaluation = evaluation
    self.lengths = Lengths.from_features(evaluation.feature_lengths)
    check_room(evaluation, problem)
    self.tasks = evenly_spaced(evaluation.targets.open(), evaluation.max_tasks)
    where = f"evaluation {evaluation.name!r}"
    opened = [
      episodes.matched(self.tasks, task_set.open(), where)
      for task_set in evaluation.pools
    ]
    check_tasks([*self.tasks, *(x for pool in opened for x in pool)], problem)
    instructions.check_tasks(
      self.tasks,
      evaluation.instruction_readers,
      evaluation.num_demonstrations,
      self.lengths,
    )
    joining.check_separate_rows(
      evaluation.num_demonstrations,
      evaluation.instruction_readers,
      self.lengths,
    )
    # By draw and task; one set serves all draws.
    self._pools = opened * (evaluation.num_draws // len(opened))
    texts.check_records(where, self.tasks)
    everywhere = [*self.tasks, *(x for pool in self._pools for x in pool)]
    self.vocabulary = texts.vocabulary(where, everywhere)
    self.controls = self._answerable(problem)
    self.units = list(self._make_units())
    # Lent to another task, a task's demonstrations are drawn once more.
    self.demonstrations = {
      (control, task, draw): self._choose(control, task, draw)
      for control in (RIGHT, OTHER)
      for task in range(len(self.tasks))
      for draw in range(evaluation.num_draws)
    }
    self._relabelled = relabelled.Relabelled(
      self.tasks, self._pools, self.lengths
    )
    self._replace_labels()
    self._rows_by_hash = [
      {int(h): row for row, h in enumerate(task.rows.hashes)}
      for task in self.tasks
    ]

  def _answerable(self, problem: Problem) -> list[str]:
    """The controls under which answers can differ from those under others."""
    evaluation = self._evaluation
    found = [
      control
      for control in evaluation.controls
      if control in conditions(problem)
    ]
    if not found:
      raise ValueError(
        f"evaluation {evaluation.name!r}: FewShotEvaluation.controls are "
        f"{', '.join(evaluation.controls)}; a {type(problem).__name__} answers "
        f"alike under all but {', '.join(conditions(problem))}"
      )
    if OTHER in found and len(self.tasks) < 2:
      _log.warning(
        "%s has one task: no other task to take demonstrations from",
        evaluation.name,
      )
      found.remove(OTHER)
    if ROTATED in found and evaluation.num_demonstrations < 2:
      _log.warning(
        "%s has %d demonstrations of a task: no outputs to rotate",
        evaluation.name,
        evaluation.num_demonstrations,
      )
      found.remove(ROTATED)
    return found

  def _replace_labels(self) -> None:
    """Where that is asked for; its controls are gone if no task has labels."""
    asked = [x for x in self.controls if columns.base(x) != RIGHT]
    if not asked:
      return
    evaluation = self._evaluation
    own = {
      (task, draw): rows
      for (control, task, draw), rows in self.demonstrations.items()
      if control == RIGHT
    }
    self._relabelled.replace(own, evaluation.relabel_with, evaluation.seed)
    if not any(len(self.rows(unit, asked[0])) for unit in self.units):
      _log.warning(
        "%s has no task whose labels can be replaced: demonstrations must show "
        "two of them",
        evaluation.name,
      )
      self.controls = [x for x in self.controls if x not in asked]

  def context(self, unit: Unit, control: str) -> Context:
    """Rows of a unit with the demonstrations of a control.

    With those of another task the hypermodel reads that task's instruction too.
    """
    return Context(
      demonstrations=self.shown(unit, control), **self.read(unit, control)
    )

  def shown(self, unit: Unit, control: str) -> Any:
    """The demonstrations of a control: ids joined, or those of each."""
    source, lent = unit.task, RIGHT
    if control == OTHER:
      source, lent = unit.other, OTHER
    replaced = self._relabelled.place(unit.task, unit.draw, control)
    if replaced is not None:
      return replaced
    shown = self.demonstrations[lent, source, unit.draw]
    # Every output is another demonstration's: all are moved on by one.
    outputs = np.roll(shown, 1) if control == ROTATED else shown
    return self._room(source).place(
      self._pools[unit.draw][source], shown, outputs
    )

  def read(self, unit: Unit, control: str = RIGHT) -> dict[str, Any]:
    """Inputs and targets of a unit's rows, as the T5 meets them."""
    readers = self._evaluation.instruction_readers
    task = self._relabelled.task(unit.task, unit.draw, control)
    rows = self.rows(unit, control)
    return reading.read_rows(task, rows, self.lengths, readers)

  def rows(self, unit: Unit, control: str) -> np.ndarray:
    """The rows of a unit that are answered under a control."""
    return self._relabelled.rows(unit.task, unit.draw, control, unit.rows)

  def choices(self, unit: Unit, row: int, control: str) -> list[np.ndarray]:
    """`choice_ids` of a row under a control."""
    ids = self.choice_ids(self.tasks[unit.task], row)
    return self._relabelled.outputs(unit.task, unit.draw, control, ids)

  def num_tokens(self, unit: Unit) -> int:
    """Of the inputs of a unit's rows and of what may be answered, about."""
    task = self.tasks[unit.task]
    first, last = int(unit.rows[0]), int(unit.rows[-1]) + 1
    found = task.rows.closed_lengths(joining.INPUTS, task.end_id, first, last)
    inputs = np.minimum(found[unit.rows - first], self.lengths.inputs).sum()
    return int(inputs) + len(unit.rows) * self.lengths.targets

  def digest(self) -> str:
    """Hash of what is asked: all rows, choices and demonstrations."""
    digest = hashlib.sha256(
      repr(self.vocabulary and self.vocabulary.description).encode()
    )

    def add(task: Task, rows: Iterable[int], *facts: Any) -> None:
      for row in rows:
        digest.update(repr((task.name, *facts)).encode())
        for feature in (joining.INPUTS, joining.TARGETS):
          digest.update(task.rows.row(row, feature).tobytes() + b" ")
        if task.rows.records is not None:
          digest.update(task.rows.records[row])

    for unit in self.units:
      task = self.tasks[unit.task]
      add(task, unit.rows.tolist(), unit.draw, unit.other, unit.is_ranked)
    for (control, index, draw), rows in self.demonstrations.items():
      add(self._pools[draw][index], rows.tolist(), control, draw)
    for found in self._relabelled.facts:
      digest.update(repr(found).encode())
    for task in self.tasks:
      if task.instruction is not None:
        digest.update(np.asarray(task.instruction).tobytes() + b" ")
    return digest.hexdigest()

  def _room(self, task: int) -> joining.Room:
    """Where the hypermodel reads a task."""
    readers = self._evaluation.instruction_readers
    return joining.Room.of(self.tasks[task], readers, self.lengths)

  def choice_ids(self, task: Task, row: int) -> list[np.ndarray]:
    """Token ids of a row's choices, each with its end.

    Raises:
      ValueError: there are none, or one is too long: cut, it might equal another.
    """
    vocabulary, choices = task.vocabulary, task.rows.record(row).get("choices")
    where = f"evaluation {self._evaluation.name!r}, {task.name}, row {row}"
    if not choices or vocabulary is None or vocabulary.eos_id is None:
      raise ValueError(
        f"{where}: it has no choices to rank, or no tokenizer with an end"
      )
    found = [
      np.asarray([*vocabulary.encode(choice.strip()), vocabulary.eos_id])
      for choice in choices
    ]
    longest = max(len(ids) for ids in found)
    if longest > self.lengths.targets:
      raise ValueError(
        f"{where}: a choice has {longest} tokens, "
        f"TASK_FEATURE_LENGTHS['targets'] is {self.lengths.targets}"
      )
    return found

  def answer(self, unit: Unit, row: int) -> Answer:
    """A target with its texts, not yet answered."""
    task = self.tasks[unit.task]
    pool = self._pools[unit.draw][unit.task]
    record = task.rows.record(row)
    answer = Answer(
      task=task.name,
      category=record.get("category"),
      task_type=record.get("task_type"),
      choices=record.get("choices") or None,
      is_correct=record.get("is_correct"),
      weight=record.get("weight", 1.0),
      row=row,
      draw=unit.draw,
      input=texts.text(task, row, joining.INPUTS),
      target=texts.text(task, row, joining.TARGETS),
      references=texts.references(task, row),
      instruction=self._instruction_text(task),
      demonstrations=[
        [texts.text(pool, i, x) for x in (joining.INPUTS, joining.TARGETS)]
        for i in self.demonstrations[RIGHT, unit.task, unit.draw].tolist()
      ],
    )
    if (unit.task, unit.draw) in self._relabelled:
      replaced = self._relabelled.task(unit.task, unit.draw, columns.RELABELLED)
      answer.relabelled = self.decode(replaced.rows.row(row, joining.TARGETS))
    if OTHER in self.controls:
      answer.other_task = self.tasks[unit.other].name
      theirs = self._rows_by_hash[unit.other].get(int(task.rows.hashes[row]))
      if theirs is not None:
        answer.other_references = texts.references(
          self.tasks[unit.other], theirs
        )
    return answer

  def decode(self, ids: Any) -> str:
    """Text of token ids; their numbers where there is no tokenizer."""
    return texts.decode(self.vocabulary, ids)

  def _make_units(self) -> Iterable[Unit]:
    evaluation = self._evaluation
    count = len(self.tasks)
    for draw in range(evaluation.num_draws):
      # Another task for each: the next one in a random circle.
      circle = order.generator(
        evaluation.seed, order.Stream.OTHER_TASKS, draw
      ).permutation(count)
      following = dict(zip(circle, np.roll(circle, -1), strict=True))
      for index, task in enumerate(self.tasks):
        other = int(following[index])
        for is_ranked, rows in self._by_way(task):
          size = evaluation.rows_per_context or max(1, len(rows))
          for first in range(0, len(rows), size):
            some = rows[first : first + size]
            yield Unit(index, other, draw, some, is_ranked)

  def _by_way(self, task: Task) -> list[tuple[bool, np.ndarray]]:
    """The targets of a task that are ranked, and those that are decoded."""
    rows = np.arange(len(task.rows))[: self._evaluation.max_targets]
    decoder = self._evaluation.decoder
    if not isinstance(decoder, rank.Rank):
      return [(False, rows)]
    if decoder.free_form is None:
      return [(True, rows)]
    has_choices = np.asarray(
      [bool(task.rows.record(row).get("choices")) for row in rows.tolist()],
      bool,
    )
    return [(True, rows[has_choices]), (False, rows[~has_choices])]

  def _choose(self, control: str, task: int, draw: int) -> np.ndarray:
    """Demonstration rows of a task: other than its targets, and fitting."""
    evaluation, pool = self._evaluation, self._pools[draw][task]
    rows = np.arange(len(pool.rows))
    if not evaluation.in_order:
      stream = order.Stream.EVALUATED_DEMONSTRATIONS
      key = (evaluation.seed, stream, _DRAWS[control], task, draw)
      rows = order.permuted(rows, len(rows), *key)
    targets = self.tasks[task].rows.hashes[: evaluation.max_targets]
    is_other = ~np.isin(pool.rows.hashes[rows], targets)
    wanted = rows[is_other][: evaluation.num_demonstrations]
    if not evaluation.num_demonstrations:
      return wanted
    if not len(wanted):
      raise ValueError(
        f"evaluation {evaluation.name!r}, task {pool.name!r}: none of its "
        f"{len(pool.rows)} rows can be a demonstration, all are among the targets"
      )
    room = self._room(task)
    kept, _ = room.keep_fitting(wanted.tolist(), joining.joined_lengths(pool))
    if not len(kept):
      raise ValueError(
        f"evaluation {evaluation.name!r}, task {pool.name!r}: none of "
        f"{len(wanted)} demonstrations fits in {room.num_ids} tokens "
        "(TASK_FEATURE_LENGTHS['demonstrations'])"
      )
    return kept

  def _instruction_text(self, task: Task) -> str | None:
    if not self._evaluation.instruction_readers or task.instruction is None:
      return None
    return self.decode(task.instruction)
