"""The check of new adapters, made of rows and writes that wait as all others do.

So nobody waits for a whole check, and no shape is compiled for one.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.server.engine import Engine
from hyperjax.server.jobs import Answered, Full, Job
from hyperjax.server.programs import Asked, Held, Programs
from hyperjax.serving.answering_t5 import Answers, Options
from hyperjax.serving.model import Model

_AGAIN = 0.02  # seconds until a full queue is asked again


class Checked:
  """A model as the check asks it, whose answers an engine gives.

  Made for one check; `close` frees what it held.
  """

  def __init__(self, model: Model, engine: Engine, programs: Programs):
    self._model, self._engine, self._programs = model, engine, programs
    self._held: dict[int, tuple[Adapter, Held | None]] = {}

  def __getattr__(self, name: str) -> Any:
    """What needs no device is the model's own."""
    if name in ("vocabulary", "lengths", "run", "pool", "read", "encode"):
      return getattr(self._model, name)
    raise AttributeError(f"a check does not ask for {name!r}")

  def close(self) -> None:
    """Frees the places of the check's adapters."""
    own = [held for _, held in self._held.values() if held is not None]
    if own:
      self._engine.call(lambda: self._programs.forget(own)).result()
    self._held.clear()

  def write(self, fitted: Sequence[Any]) -> list[Adapter]:
    """As `Model.write`."""
    waiting = [self._patiently(self._engine.write, one) for one in fitted]
    return [future.result() for future in waiting]

  def answer(
    self,
    inputs: Sequence[np.ndarray],
    own: Sequence[Adapter],
    options: Options | None = None,
  ) -> Answers:
    """As `Model.answer`, greedily."""
    del options
    most = self._programs.most_tokens
    found = self._rows(
      [
        Asked(tokens=self._fitting(ids), held=self._of(adapter), limit=most)
        for ids, adapter in zip(inputs, own, strict=True)
      ]
    )
    ends = self._model.backbone.config.eos_ids
    texts = [
      self._model.vocabulary.decode([i for i in x.tokens if i not in ends])
      for x in found
    ]
    return Answers(texts, [x.tokens for x in found], [])

  def score(
    self,
    inputs: Sequence[np.ndarray],
    own: Sequence[Adapter],
    outputs: Sequence[Sequence[Sequence[int]]],
    batch_size: int = 0,
  ) -> list[list[float]]:
    """As `Model.score`, of one output each, and of no more tokens than answers have."""
    del batch_size
    asked = []
    for ids, adapter, [output] in zip(inputs, own, outputs, strict=True):
      given = list(output)[: self._programs.most_tokens]
      asked.append(
        Asked(
          tokens=self._fitting(ids),
          held=self._of(adapter),
          limit=len(given),
          given=given,
        )
      )
    return [[float(sum(x.log_probs))] for x in self._rows(asked)]

  def _rows(self, asked: Sequence[Asked]) -> list[Answered]:
    """Some at a time, so that they never fill the queue."""
    most = max(1, self._engine.limits.queue // 8)
    found: list[Answered] = []
    for first in range(0, len(asked), most):
      job = Job(asked[first : first + most])
      found += self._patiently(self._engine.submit, job).result()
    return found

  def _patiently(self, ask: Any, what: Any) -> Any:
    """What a queue takes as soon as it has room, within the time of a row."""
    until = time.monotonic() + self._engine.limits.timeout
    while True:
      try:
        return ask(what)
      except Full:
        if time.monotonic() > until:
          raise
        time.sleep(_AGAIN)

  def _of(self, adapter: Adapter) -> Held | None:
    found = self._held.get(id(adapter))
    if found is None:
      held = None
      if jax.tree.leaves(adapter.arrays):
        held = self._programs.prepared(adapter, "an adapter of the check")
      found = self._held[id(adapter)] = (adapter, held)
    return found[1]

  def _fitting(self, ids: np.ndarray) -> np.ndarray:
    """Without the first examples of more than there is room for."""
    return ids[-self._programs.shapes.longest :]
