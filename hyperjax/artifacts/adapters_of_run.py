"""The adapters that a run trained itself, as what adapter folders hold.

A run of `AdapterFineTuning` trained one adapter for everything, or one for each
of several tasks side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import adapters
from hyperjax.artifacts import config_json, restore, run_folder
from hyperjax.artifacts.adapter_folder import Adapter, Info
from hyperjax.artifacts.run_record import TokenizerRef
from hyperjax.data import instructions
from hyperjax.sharding import MeshSpec
from hyperjax.trainer import abstract_params


class TrainedAdapters:
  """A run's adapters, one for each task; arrays are read by `read`."""

  def __init__(self, run: str, step: int | None = None):
    """Opens a run.

    Args:
      run: its folder.
      step: of a checkpoint; by default the last.

    Raises:
      ValueError: there is none, or it trained no adapters by themselves.
    """
    found = run_folder.find(run, "RUN", step)
    own = found.record.problem
    if not own.trains_adapters:
      why = "which trains no adapter by itself"
      if own.writes_adapters:
        why = "whose adapters are written: `hyperjax adapt` makes them"
      raise ValueError(f"{found.shown} is a run of {own.kind}, {why}")
    self._found, self._reads = found, found.reads
    assert found.backbone is not None  # it is frozen
    self._named = found.backbone
    self._problem: Any = config_json.problem(own, found.shown)
    # None: one adapter for whatever the run was trained on.
    self.tasks = found.record.task_names
    readers = self._reads.instruction_readers
    self._reads_instructions = instructions.BACKBONE in readers
    self._tokenizer = self._reads.tokenizer
    if self._tokenizer is not None and self._tokenizer.is_readable:
      # Where it lies now.
      here = run_folder.tokenizer(found).description
      self._tokenizer = TokenizerRef.of(here)

  @property
  def step(self) -> int:
    """Of the checkpoint."""
    return self._found.step

  @property
  def wants_instructions(self) -> bool:
    """Whether an input must begin with what says in words what to do.

    The adapter is then of several tasks, so no folder can say it.
    """
    return self.tasks is None and self._reads_instructions

  def chosen(self, names: Sequence[str] = ()) -> list[str | None]:
    """The tasks of these names, by default all; None stands for all in one.

    Raises:
      ValueError: the run has no such task, or one adapter for all.
    """
    if self.tasks is None:
      if names:
        raise ValueError(
          f"--task {names[0]}: {self._found.folder} trained one adapter for "
          "all of its tasks; leave --task out"
        )
      return [None]
    for name in names:
      if name not in self.tasks:
        raise ValueError(
          f"--task {name}: {self._found.folder} trained adapters of "
          f"{', '.join(self.tasks)}"
        )
    return list(dict.fromkeys(names)) or list(self.tasks)

  def read(self, chosen: Sequence[str | None]) -> list[Adapter]:
    """The adapters of some tasks.

    Raises:
      ValueError: the checkpoint is of something else.
    """
    found, problem = self._found, self._problem
    host = MeshSpec().build(jax.local_devices(backend="cpu")[:1])
    shapes, _ = abstract_params(problem, host)
    params = restore.restored(found.folder, found.step, shapes)
    leaves = problem.adapters.leaves(problem.backbone)
    whole = adapters.from_params(params["adapters"], leaves)
    made = []
    for task in chosen:
      i = 0 if self.tasks is None else self.tasks.index(str(task))
      own = jax.tree.map(lambda x, i=i: np.asarray(x)[:, i : i + 1], whole)
      made.append(Adapter(self._info(task), own))
    return made

  def _info(self, task: str | None) -> Info:
    found = self._found
    training = {"run": str(found.folder), "step": found.step}
    if task is not None:
      training["task"] = task
    # Earlier versions did not say.
    values = found.record.initial_values
    training["initial_values"] = values and values.given
    return Info(
      spec=self._problem.adapters,
      config=self._problem.backbone,
      backbone=self._named,
      tokenizer=self._tokenizer,
      lengths=self._reads.lengths,
      origin={"training": training},
      instruction=self._instruction(task),
    )

  def _instruction(self, task: str | None) -> Mapping[str, Any] | None:
    """What the T5 read before each input of a task, as `Info.instruction`."""
    if task is None or not self._reads_instructions:
      return None
    if self._reads.instructions is None:
      raise ValueError(
        f"{self._found.shown} does not say which instruction its T5 read before "
        "the inputs of a task, since an earlier version wrote it: train it on "
        "for a few steps with this one"
      )
    ids = self._reads.instructions.get(task)
    if ids is None:
      return None
    own = run_folder.tokenizer(self._found)
    text = own.decode(ids)
    found = {"text": text, "readers": [instructions.BACKBONE]}
    # What the tokenizer has no piece for is lost in the text.
    return found | ({} if own.encode(text) == list(ids) else {"ids": list(ids)})
