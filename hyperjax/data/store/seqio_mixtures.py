"""What a seqio mixture comes to, as seqio has it: its tasks, and their rates.

Tasks of a mixture share a vocabulary; those without the split that is asked for are
left out; a rate may be a function of the task. Needs seqio when called.
"""

import contextlib
import difflib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hyperjax.data.store import seqio_rows

_log = logging.getLogger(__name__)

# Rows of a task's split, where its source does not say how many it has.
Count = Callable[[Any, str], int]


def find(name: str) -> Any:
  """The registered seqio mixture or task of this name.

  Raises:
    ValueError: nothing of this name is registered.
  """
  seqio = seqio_rows.import_seqio()
  names = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if name not in names:
    near = difflib.get_close_matches(name, names, 3, 0.5)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise ValueError(
      f"no seqio task or mixture {name!r} is registered (of {len(names)}){hint}"
    )
  return seqio.get_mixture_or_task(name)


def tasks_of(provider: Any) -> list[Any]:
  """The tasks of a seqio mixture, or a task itself.

  Raises:
    ValueError: tasks of the mixture differ in a feature's vocabulary or dtype.
  """
  if isinstance(provider, seqio_rows.import_seqio().Task):
    return [provider]
  tasks = list({task.name: task for task in provider.tasks}.values())
  first = tasks[0]
  for task in tasks[1:]:
    for name, feature in task.output_features.items():
      for what in ("vocabulary", "dtype"):
        own = getattr(first.output_features[name], what, None)
        its = getattr(feature, what, None)
        if own != its:
          raise ValueError(
            f"mixture {provider.name!r}: its tasks must have one {what} for "
            f"{name!r}; {first.name!r} has {own}, {task.name!r} has {its}"
          )
  return tasks


def cached(folders: Sequence[str], tasks: Sequence[Any] = ()) -> None:
  """Has tasks read from what seqio has cached in `folders`: `seqio_cache.use`."""
  from hyperjax.data.store import seqio_cache  # imports seqio

  seqio_cache.use(tasks, folders)


def having(provider: Any, tasks: Sequence[Any], split: str) -> list[Any]:
  """Those tasks of a mixture that have a split; the others are told of.

  Raises:
    ValueError: none has it.
  """
  if isinstance(provider, seqio_rows.import_seqio().Task):
    return list(tasks)
  found = [task for task in tasks if split in task.splits]
  lacking = [task.name for task in tasks if split not in task.splits]
  if not found:
    every = sorted({str(own) for task in tasks for own in task.splits})
    raise ValueError(
      f"mixture {provider.name!r}: none of its {len(tasks)} tasks has a split "
      f"{split!r}; their splits are {', '.join(every)}"
    )
  if lacking:
    shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
    _log.warning(
      "mixture %r: %d of %d tasks have no split %r and are left out: %s",
      provider.name,
      len(lacking),
      len(tasks),
      split,
      shown,
    )
  return found


def rates(provider: Any, tasks: Sequence[Any], count: Count) -> list[float]:
  """The rate of each of a mixture's tasks; 1 of a task itself.

  Args:
    provider: the mixture.
    tasks: of it.
    count: of rows, for rates that ask for them.

  Raises:
    ValueError: a rate cannot be told, is no number from 0 on, or a mixture
      inside has no task with a positive rate.
  """
  if isinstance(provider, seqio_rows.import_seqio().Task):
    return [1.0]
  with _counted(provider.tasks, count):
    _check_inner(provider, provider.name)
    return [_rate(provider, task) for task in tasks]


def _rate(mixture: Any, task: Any) -> float:
  where = f"mixture {mixture.name!r}: the rate of task {task.name!r}"
  try:
    rate = float(mixture.get_rate(task))
  except ValueError as error:
    raise ValueError(f"{where} cannot be told: {error}") from error
  except Exception as error:  # it may be any function of the user's
    raise ValueError(
      f"{where} cannot be told: {type(error).__name__}: {error}"
    ) from error
  if not math.isfinite(rate) or rate < 0:
    raise ValueError(f"{where} must be a number from 0 on, got {rate}")
  return rate


def _check_inner(mixture: Any, outer: str) -> None:
  """Refuses mixtures in it whose rates are all 0: a task would have no share."""
  for inner in mixture._sub_mixtures:  # noqa: SLF001 - seqio says it nowhere else
    _check_inner(inner, outer)
    names = inner.rate_per_task_name
    if all(not callable(rate) and rate == 0 for rate in names.values()):
      raise ValueError(
        f"mixture {outer!r}: mixture {inner.name!r} in it has no task with a "
        "positive rate"
      )


@contextlib.contextmanager
def _counted(tasks: Sequence[Any], count: Count) -> Iterator[None]:
  """Tasks that say how many examples they have, where their source does not."""

  def number(task: Any, known: Callable[[str], int | None]) -> Any:
    def of(split: str) -> int:
      if split not in task.splits:
        raise ValueError(
          f"it asks for the rows of split {split!r}, of which the task has "
          f"none, only {', '.join(map(str, task.splits))}"
        )
      found = known(split)
      return count(task, split) if found is None else found

    return of

  with contextlib.ExitStack() as undone:
    for task in tasks:
      task.num_input_examples = number(task, task.num_input_examples)
      undone.callback(vars(task).pop, "num_input_examples")
    yield
