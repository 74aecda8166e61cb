"""Microbatches of few shapes: how the contexts of a batch are shared out to them.

A batch is padded to its longest rows, and most of it is padding. Here its contexts
are put together with others of about their lengths. A bucket is a shape: what each
feature is padded to, and how many contexts are in a microbatch of it, the fewer the
longer they are. There are few of them, known before the first step, so few programs
are compiled. Which contexts meet follows from the lengths of all contexts of a
batch, which every process knows without reading a token: all take the same shapes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from hyperjax import batch, checks
from hyperjax.batch import PAD_ID, Batch, Context, Lengths, Sizes
from hyperjax.data import feed

MOST = 12  # shapes
FEATURES = Sizes._fields
Length = Annotated[int, checks.Whole(1, checks.MAX_LENGTH)]


@runtime_checkable
class Sized(feed.Source, Protocol):
  """Contexts whose lengths are known without their tokens."""

  def sizes(self, index: int) -> Sizes: ...


@dataclasses.dataclass(frozen=True)
class Buckets:
  """That batches are taken in microbatches of different shapes.

  Attributes:
    lengths: that a feature may be padded to, besides its longest; None, or for
      features that are not here, quantiles of the data's own.
    most_shapes: that are compiled.
  """

  lengths: (
    Annotated[
      Mapping[str, Sequence[int]],
      checks.Entries(FEATURES, checks.rule_of(Sequence[Length])),
    ]
    | None
  ) = None
  most_shapes: Annotated[int, checks.Whole(1, MOST)] = MOST

  def __post_init__(self):
    checks.fields(self)


class Bucket(NamedTuple):
  """A shape of a microbatch."""

  contexts: int
  lengths: Lengths

  @classmethod
  def of(cls, contexts: int, *lengths: int) -> "Bucket":
    """Of the numbers that `numbers` gives."""
    return cls(contexts, Lengths(*lengths))

  @property
  def numbers(self) -> tuple[int, ...]:
    """Its contexts, and its length of each of `FEATURES`."""
    return self.contexts, *of_features(self.lengths)

  @property
  def words(self) -> str:
    """It, for a line of text."""
    named = [
      f"{name} {own}"
      for name, own in zip(FEATURES, of_features(self.lengths), strict=True)
      if own
    ]
    return f"{self.contexts} contexts of {', '.join(named)}"


class Part(NamedTuple):
  """A microbatch: which contexts of the batch are in it, from 0."""

  bucket: Bucket
  members: list[int]  # of a microbatch that is not full fewer


def split(
  sizes: Sequence[Sizes] | np.ndarray, buckets: Sequence[Bucket]
) -> list[Part]:
  """The microbatches of a batch; each context is in one of them.

  A context is in the last bucket that holds it, unless an earlier one has room.

  Args:
    sizes: of all contexts of the batch, in its order; or as an array, [C, features].
    buckets: the most work first; the first holds every context.
  """
  holds = held_by(sizes, [bucket.lengths for bucket in buckets])
  count = len(buckets)
  own = count - 1 - holds[::-1].argmax(axis=0)
  order = np.argsort(own, kind="stable")
  waiting = np.ones(len(sizes), bool)
  parts = []
  for i, bucket in enumerate(buckets):
    members = order[(waiting & (own == i))[order]]
    if not len(members):
      continue
    room = -len(members) % bucket.contexts
    others = order[(waiting & (own > i) & holds[i])[order]][:room]
    taken = np.concatenate([members, others])
    waiting[taken] = False
    for first in range(0, len(taken), bucket.contexts):
      some = taken[first : first + bucket.contexts]
      parts.append(Part(bucket, some.tolist()))
  return parts


def held_by(
  sizes: Sequence[Sizes] | np.ndarray, lengths: Sequence[Lengths]
) -> np.ndarray:
  """Whether lengths hold a context, bool [lengths, contexts]."""
  wanted_CF = np.asarray(sizes).reshape(-1, len(FEATURES))
  given_KF = np.asarray([of_features(each) for each in lengths])
  return np.all(wanted_CF[None] <= given_KF[:, None], axis=-1)


def of_features(lengths: Lengths) -> tuple[int, ...]:
  """Its length of each of `FEATURES`."""
  return tuple(getattr(lengths, name) for name in FEATURES)


class Microbatches:
  """Makes batches in microbatches, this process's part of each.

  What only fills a microbatch are contexts without a token, which weigh nothing.
  """

  def __init__(
    self,
    source: Sized,
    num_contexts: int,
    buckets: Sequence[Bucket],
    own: Callable[[int], Sequence[int]] = range,
    pad_id: int = PAD_ID,
  ):
    """`own` of a number of contexts: which of a microbatch this process makes."""
    self.buckets, self._pad_id = tuple(buckets), pad_id
    self.source, self._num_contexts, self._own = source, num_contexts, own

  def __call__(self, first: int) -> tuple[Batch, ...]:
    """Those of the batch whose first context has this index."""
    indices = range(first, first + self._num_contexts)
    parts = split([self.source.sizes(i) for i in indices], self.buckets)
    return tuple(self._part(first, part) for part in parts)

  def _part(self, first: int, part: Part) -> Batch:
    members, count = part.members, part.bucket.contexts
    filled = [first + i for i in members] + [None] * (count - len(members))
    made = [filled[i] for i in self._own(count)]
    like = self.source[first + members[0]]
    contexts = [
      _empty(like) if index is None else self.source[index] for index in made
    ]
    return batch.assemble(contexts, part.bucket.lengths, self._pad_id)

  def outlines(self) -> list[Batch]:
    """Shapes and types of the arrays of each microbatch there may be."""
    empty = _empty(self.source[0])
    return [
      feed.widened(batch.assemble([empty], bucket.lengths), bucket.contexts)
      for bucket in self.buckets
    ]


def _empty(like: Context) -> Context:
  """A context of as many rows without a token."""
  nothing = np.zeros(0, np.int32)
  read: Any = like.demonstrations
  if isinstance(read, np.ndarray):
    read = nothing
  elif read is not None:
    read = []
  beside = like.unrelated
  if beside is not None:
    beside = beside._replace(inputs=nothing, targets=nothing)
  return Context(
    [nothing] * len(like.inputs), [nothing] * len(like.targets), read, beside
  )
