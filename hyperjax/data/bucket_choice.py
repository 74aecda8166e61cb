"""Which buckets take the least work for some data: by the lengths of its contexts."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hyperjax import checks
from hyperjax.batch import Lengths
from hyperjax.data import buckets
from hyperjax.data.buckets import Bucket, Buckets, Sized

_MULTIPLE = 8  # of tokens: odd lengths save little and are slow on devices
_SAMPLE = 2048  # contexts that are looked at, about
# Quantiles of a feature's lengths that may be lengths of a bucket. Most rows are far
# shorter than the longest, so of inputs and targets the upper ones are nearer.
_NUM_QUANTILES = {
  "inputs": 10,
  "targets": 6,
  "demonstrations": 20,
  "num_demonstrations": 6,
}
_MOST_SEPARATE = 8  # of any feature, where demonstrations are encoded alone
# Tokens of the longest lengths, on each device, whose work a microbatch costs besides
# its own: weights are read once more.
_OVERHEAD = 256

Work = Callable[[Lengths], float]


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a microbatch is held to.

  Attributes:
    contexts: of a whole batch.
    rows: of a context.
    devices: that a microbatch is split over, as many contexts on each.
    tokens: on each device, padding counted.
    are_joined: as of `Lengths.tokens`.
  """

  contexts: checks.Count
  rows: checks.Count
  devices: checks.Count
  tokens: checks.Count
  are_joined: bool = False

  def bucket(self, lengths: Lengths, tokens: int) -> Bucket:
    """Of so many tokens on each device; its contexts are what devices divide."""
    own = max(1, tokens // lengths.tokens(self.rows, self.are_joined))
    whole = -(-self.contexts // self.devices)
    return Bucket(min(own, whole) * self.devices, lengths)


def chosen(
  settings: Buckets, source: Sized, limits: Limits, work: Work
) -> tuple[Bucket, ...]:
  """The buckets that take the least work for the data's own lengths.

  The first holds whatever the data may have.

  Args:
    settings: which lengths there may be, and how many shapes.
    source: the data, whose first contexts are looked at, but for their tokens.
    limits: what a microbatch is held to.
    work: that a context of some lengths takes, in any unit.
  """
  work, num_batches = functools.cache(work), max(1, _SAMPLE // limits.contexts)
  seen_CF = np.asarray(
    [source.sizes(i) for i in range(num_batches * limits.contexts)]
  )
  batches = np.split(seen_CF, num_batches)
  longest = source.lengths
  tokens = longest.tokens(limits.rows, limits.are_joined)
  overhead = work(longest) / tokens * _OVERHEAD * limits.devices

  def total(found: Sequence[Bucket]) -> float:
    works = {own: own.contexts * work(own.lengths) + overhead for own in found}
    return sum(
      works[part.bucket]
      for own in batches
      for part in buckets.split(own, found)
    )

  def bounded(lengths: Sequence[Lengths], tokens: int) -> tuple[Bucket, ...]:
    ordered = sorted(lengths, key=work, reverse=True)
    return tuple(limits.bucket(own, tokens) for own in ordered)

  sets = list(_Search(settings, longest, seen_CF, work).found())
  held = list(_tokens(limits.tokens, max(1, tokens // 16)))
  # The size of microbatches, then the number of shapes, and once more.
  lengths, most = sets[-1], limits.tokens
  for _ in range(2):
    most = min(held, key=lambda own: total(bounded(lengths, own)))
    lengths = min(sets, key=lambda own: total(bounded(own, most)))
  return bounded(lengths, most)


def _tokens(most: int, least: int) -> Iterator[int]:
  """As many as there may be, two thirds of them, and so on."""
  yield most
  while most * 2 // 3 >= least:
    most = most * 2 // 3
    yield most


class _Search:
  """Sets of lengths by which the least is padded, one for each number of them."""

  def __init__(
    self,
    settings: Buckets,
    longest: Lengths,
    seen_CF: np.ndarray,
    work: Work,
  ):
    self._most = settings.most_shapes
    features = zip(
      buckets.FEATURES, buckets.of_features(longest), seen_CF.T, strict=True
    )
    each = [
      _steps(settings, name, most, own, longest.are_separate)
      for name, most, own in features
    ]
    self._lengths = [Lengths(*own) for own in itertools.product(*each)]
    self._holds_KC = buckets.held_by(seen_CF, self._lengths)
    works = [work(own) for own in self._lengths]
    self._works_K1 = np.asarray(works, np.float32)[:, None]

  def found(self) -> Iterator[list[Lengths]]:
    """The longest lengths, with ever more others that save the most."""
    kept = [0]
    while True:
      yield [self._lengths[i] for i in kept]
      more = self._best(kept)
      if len(kept) == self._most or more is None:
        break
      kept = [*kept, more]
    for i in range(1, len(kept)):  # each once more, among the others
      others = kept[:i] + kept[i + 1 :]
      kept = [*kept[:i], self._best(others) or kept[i], *kept[i + 1 :]]
    yield [self._lengths[i] for i in kept]

  def _best(self, kept: Sequence[int]) -> int | None:
    """Which lengths save the most beside some; None where none save anything."""
    works_KC = np.where(
      self._holds_KC[kept], self._works_K1[kept], np.float32(np.inf)
    )
    saved_KC = np.maximum(works_KC.min(axis=0) - self._works_K1, 0)
    saved_K = (saved_KC * self._holds_KC).sum(axis=1)
    best = int(saved_K.argmax())
    return best if saved_K[best] > 0 else None


def _steps(
  settings: Buckets,
  name: str,
  longest: int,
  values: np.ndarray,
  are_separate: bool,
) -> list[int]:
  """Lengths of a feature that a bucket may have, the longest first."""
  given = (settings.lengths or {}).get(name)
  if given is None:
    count = _NUM_QUANTILES[name]
    ranks = np.linspace(0, 1, count)
    if are_separate:
      ranks = np.linspace(0, 1, min(count, _MOST_SEPARATE))
    ends = np.quantile(values, 1 - (1 - ranks) ** 2, method="higher").tolist()
    multiple = 1 if name == "num_demonstrations" else _MULTIPLE
    given = [-(-int(end) // multiple) * multiple for end in ends]
  own = {length for length in given if 0 < length < longest}
  return [longest, *sorted(own, reverse=True)]
