"""Texts beside tasks that have nothing to do with them: adapters leave them alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hyperjax.batch import Lengths
from hyperjax.data import feed
from hyperjax.data.store.store import Task


class Text(Protocol):
  """Rows by themselves: `sources.PrefixLmWindows`, `sources.TextPairs`."""

  @property
  def tasks(self) -> Any: ...

  @property
  def feature_lengths(self) -> Mapping[str, int]: ...

  @property
  def rows_per_context(self) -> int: ...

  def open(self, seed: int) -> feed.Source: ...


def check(setting: str, given: Text) -> None:
  """Refuses data whose contexts are more than a row of input and target.

  Raises:
    ValueError: they have several rows, or demonstrations.
  """
  lengths = Lengths.from_features(given.feature_lengths)
  if given.rows_per_context != 1 or lengths.demonstrations:
    raise ValueError(
      f"{setting} must be rows by themselves, without demonstrations "
      f"(PrefixLmWindows, TextPairs); got {type(given).__name__} of "
      f"{given.rows_per_context} rows with lengths {dict(given.feature_lengths)}"
    )


def opened(
  given: Text | None, tasks: Sequence[Task], seed: int
) -> feed.Source | None:
  """Texts that stand beside tasks.

  Raises:
    ValueError: they are of another vocabulary.
  """
  if given is None:
    return None
  source = given.open(seed)
  described = [
    {x: y for x, y in own.vocabulary.description.items() if x != "path"}
    for own in (*tasks, *source.tasks)
    if own.vocabulary is not None
  ]
  for other in described[1:]:
    if other != described[0]:
      raise ValueError(
        f"unrelated text, {given.tasks.mixture_or_task!r}, has the vocabulary "
        f"{other}; that of the tasks beside it is {described[0]}"
      )
  return source
