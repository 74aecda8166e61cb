"""Which setting makes fit what does not: tried, not guessed."""

import contextlib
from collections.abc import Iterator

from hyperjax.evaluation.batching import Budget, Shape
from hyperjax.memory.answer import Fitting, OutOfMemory

_NOTHING = "no shorter text fits; a smaller model, or more memory is needed"


@contextlib.contextmanager
def of_rows(budget: Budget, shape: Shape, are_joined: bool) -> Iterator[None]:
  """Within it, a batch of rows that does not fit says how many tokens do.

  Args:
    budget: that was kept.
    shape: of the rows.
    are_joined: whether they begin with demonstrations.
  """
  try:
    yield
  except OutOfMemory as error:
    found = error.fitting()
    if found is None:
      raise error.advised(error.advice or _NOTHING) from error
    changed = _shorter(found, are_joined)
    if found.rows is not None:
      tokens = max(1, found.rows // budget.devices) * budget.of_row(shape)
      if tokens < budget.tokens:
        changed.insert(0, f"EVAL_TOKENS_PER_BATCH={tokens}")
    raise error.advised(f"set {', '.join(changed)}") from error


@contextlib.contextmanager
def of_contexts() -> Iterator[None]:
  """Within it, adapters that cannot be written together say how many can."""
  try:
    yield
  except OutOfMemory as error:
    found = error.fitting()
    if found is None:
      raise error.advised(_NOTHING) from error
    changed = _shorter(found)
    if found.contexts is not None:
      name = "FewShotEvaluation.contexts_per_batch"
      changed.insert(0, f"{name}={found.contexts}")
    raise error.advised(f"set {', '.join(changed)}") from error


def _shorter(found: Fitting, are_joined: bool = False) -> list[str]:
  """Settings of lengths that fit, where these must be shorter."""
  changed = []
  for name, value in found.lengths.items():
    of = f"[{name!r}]"
    if name == "inputs" and are_joined:
      of = "['demonstrations'] and ['inputs'] together"
    changed.append(f"TASK_FEATURE_LENGTHS{of}={value}")
  return changed
