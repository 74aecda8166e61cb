"""A store to be made: what a build divides among threads and processes."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hyperjax.data.store import store


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """A store to be made.

  Attributes:
    folder: of the store.
    read: its rows, as `store.write` takes them.
    features: of a row.
    info: what the store says of itself.
    num_ids: the vocabulary's size.
    keep_records: whether the rows' other fields are stored too.
    is_portable: whether another process may do it: `read` can be pickled, and
      depends on nothing that only this process knows.
  """

  folder: pathlib.Path
  read: Callable[[], Iterable[Mapping[str, Any]]]
  features: tuple[str, ...]
  info: Mapping[str, Any]
  num_ids: int
  keep_records: bool
  is_portable: bool = False

  def make(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Makes the store; returns how many tokens it has."""

    def until_stopped() -> Iterator[Mapping[str, Any]]:
      for row in self.read():
        if is_stopped():
          raise Stopped
        yield row

    return store.write(
      self.folder,
      until_stopped(),
      self.features,
      self.info,
      self.num_ids,
      self.keep_records,
    )


class Stopped(Exception):  # noqa: N818 - seen by nobody
  """Another job failed, or the user interrupts."""
