"""Batches in order from a source by index, made ahead by a thread.

The position of a feed is the number of contexts handed out: what was only made
ahead does not count, so a run continued from a saved position meets the same
batches.
"""

import collections
import concurrent.futures
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import jax

from hyperjax import batch
from hyperjax.batch import PAD_ID, Batch, Context, Lengths
from hyperjax.data.store.store import Task

_log = logging.getLogger(__name__)


# A batch, whole or in microbatches, and the position in the data after it.
Fed = tuple[Batch | Sequence[Batch], int]


class Contexts(Protocol):
  """Contexts by index, and what they are padded to."""

  num_skipped: int  # draws made again, by this process

  @property
  def lengths(self) -> Lengths: ...

  def __getitem__(self, index: int) -> Context: ...


class Source(Contexts, Protocol):
  """Contexts of tasks: `Episodes`, `Caclm`, `PrefixLm`, `Pairs`."""

  @property
  def tasks(self) -> Sequence[Task]: ...

  def task_of(self, index: int) -> Task:
    """The task that a context is of."""
    ...


def make_batch(
  source: Contexts, first: int, own: Sequence[int], pad_id: int = PAD_ID
) -> Batch:
  """A process's part of a batch.

  Args:
    source: where contexts come from.
    first: index of the batch's first context.
    own: which of the batch's contexts are made, counted from 0 in each batch.
    pad_id: the T5's padding.
  """
  contexts = [source[first + i] for i in own]
  return batch.assemble(contexts, source.lengths, pad_id)


def outline(source: Contexts, num_contexts: int) -> Batch:
  """Shapes and types of a whole batch's arrays, of all processes."""
  skipped = source.num_skipped
  one = make_batch(source, 0, [0])
  source.num_skipped = skipped  # what is only looked at is not drawn
  return widened(one, num_contexts)


def widened(one: Batch, num_contexts: int) -> Batch:
  """Shapes and types of the arrays of several contexts, as of one."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (len(x) * num_contexts, *x.shape[1:]), x.dtype
    ),
    one,
  )


class Feed:
  """An endless iterator of `(batch, position after it)`.

  A batch has `num_contexts` contexts over all processes; this one makes those
  of `own` (default: all), or what `make` gives for the batch's first context. Use it
  in `with`, which ends its thread.
  """

  def __init__(
    self,
    source: Source,
    num_contexts: int,
    position: int = 0,
    own: Sequence[int] | None = None,
    ahead: int = 4,
    make: Callable[[int], Batch | Sequence[Batch]] | None = None,
    pad_id: int = PAD_ID,
  ):
    self._source = source
    own = range(num_contexts) if own is None else own
    self._make = make or (lambda first: make_batch(source, first, own, pad_id))
    self._num_contexts = num_contexts
    self._next = position
    self._ahead = ahead
    # One thread: numpy and Python make these batches, more would only contend.
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "feed")
    self._waiting: collections.deque[tuple[int, concurrent.futures.Future]]
    self._waiting = collections.deque()

  def __iter__(self) -> Iterator[Fed]:
    return self

  def __next__(self) -> Fed:
    while len(self._waiting) < self._ahead:
      future = self._pool.submit(self._make, self._next)
      self._next += self._num_contexts
      self._waiting.append((self._next, future))
    position, future = self._waiting.popleft()
    return future.result(), position

  def tasks(self, position: int) -> list[str]:
    """Names of the tasks in the batch that ends at a position, of all processes."""
    first = max(0, position - self._num_contexts)
    found = range(first, position)
    return sorted({self._source.task_of(i).name for i in found})

  def __enter__(self) -> "Feed":
    return self

  def __exit__(self, *_: object) -> None:
    self._pool.shutdown(cancel_futures=True)
    if self._source.num_skipped:
      _log.warning(
        "%d windows fell in too short a document and were drawn again",
        self._source.num_skipped,
      )
