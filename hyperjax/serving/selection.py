"""Which examples an adapter is written from, where there is no room for all."""

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np

from hyperjax import checks
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import sequences
from hyperjax.serving import asking, average
from hyperjax.serving import update as updating
from hyperjax.serving.answering_t5 import BATCH_SIZE
from hyperjax.serving.examples import Example, Fitted, Pool

if TYPE_CHECKING:
  from hyperjax.serving.model import Model

FIRST, DIVERSE, BEST, AVERAGE = "first", "diverse", "best", "average"
WAYS = {
  FIRST: "in their order",
  DIVERSE: "of all outputs alike, and inputs unlike one another",
  BEST: "of some choices the one under which the others' outputs are likeliest",
  AVERAGE: "in groups that fit, of whose adapters the mean is taken",
}
Select = Annotated[str, checks.OneOf(WAYS)]
# Those that take passes of the model themselves.
COSTLY = (BEST, AVERAGE)
_CHOICES = 8  # that are tried for the best
_JUDGES = 16  # examples that judge them
_GROUPS = 16  # of a mean at most
_MISSES = 8  # examples without room, after which none is looked for


@dataclasses.dataclass(frozen=True)
class Offer:
  """Rows of a pool, of which an adapter is to read some."""

  pool: Pool
  rows: Sequence[int]


def all_of(pools: Sequence[Pool]) -> list[Offer]:
  """All examples of each."""
  return [Offer(pool, range(len(pool.examples))) for pool in pools]


def choose(
  model: "Model",
  offers: Sequence[Offer],
  select: str = FIRST,
  batch_size: int = BATCH_SIZE,
) -> list[list[Fitted]]:
  """What is read for each offer: once, or by several adapters to be averaged.

  Raises:
    ValueError: of an offer nothing fits, or there is no such way.
  """
  checks.rule_of(Select).check("select", select)
  spec = model.run.problem.adapters
  if select == AVERAGE and spec.keeps_read:
    raise ValueError(
      f"select {AVERAGE!r} is not of a {spec.label}: its mean has the positions of "
      "all, more than it has room for; take 'diverse' or 'best'"
    )
  first = [offer.pool.fit(offer.rows) for offer in offers]
  found = [[fitted] for fitted in first]
  lacking = [i for i, fitted in enumerate(first) if fitted.dropped]
  some = [offers[i] for i in lacking]
  if select == DIVERSE:
    chosen = [[_diverse(offer)] for offer in some]
  elif select == AVERAGE:
    chosen = [_groups(offer) for offer in some]
  elif select == BEST:
    chosen = [[fitted] for fitted in _best(model, some, batch_size)]
  else:
    return found
  for i, own in zip(lacking, chosen, strict=True):
    found[i] = own
  return found


def write(model: "Model", chosen: Sequence[Sequence[Fitted]]) -> list[Adapter]:
  """The adapter of each, the mean of several; what is read twice is written once."""
  every = [fitted for own in chosen for fitted in own]
  keys = [_key(fitted) for fitted in every]
  first = dict(zip(keys, every, strict=True))
  written = dict(zip(first, model.write(list(first.values())), strict=True))
  return [_mean([written[_key(x)] for x in own], own) for own in chosen]


def _mean(own: Sequence[Adapter], read: Sequence[Fitted]) -> Adapter:
  if len(own) == 1:
    return own[0]
  counts = [len(fitted.kept) for fitted in read]
  found = average.combined(own, counts)
  facts: dict[str, float] = {}
  if found.info.spec != own[0].info.spec:
    found, facts["left_out"] = average.truncate(found, own[0].info.spec)
  origin = {
    "hypermodel": own[0].info.origin["hypermodel"],
    "demonstrations": updating.read_from(joined(read)),
    "groups": {"counts": counts, **facts},
  }
  info = dataclasses.replace(own[0].info, origin=origin)
  return Adapter(info, found.arrays)


def joined(read: Sequence[Fitted]) -> Fitted:
  """What several adapters read, as if it had been one; of no further use."""
  if len(read) == 1:
    return read[0]
  kept = [example for fitted in read for example in fitted.kept]
  tokens = [ids for fitted in read for ids in sequences(fitted.tokens)]
  return Fitted(tokens, kept, read[-1].dropped, read[0].instruction)


def _key(fitted: Fitted) -> tuple[bytes, ...]:
  return tuple(ids.tobytes() for ids in sequences(fitted.tokens))


def _groups(offer: Offer) -> list[Fitted]:
  """Groups that fit, one after the other; what is left at the end is dropped."""
  rows, found = list(offer.rows), []
  while rows and len(found) < _GROUPS and offer.pool.has_room(rows):
    found.append(offer.pool.fit(rows))
    rows = [row for row in rows if row not in found[-1].rows]
  return found


def _diverse(offer: Offer) -> Fitted:
  """Greedily: of outputs that were taken least, the input most unlike those taken.

  Outputs count where they repeat, as labels do; inputs are as unlike as the tokens
  that they do not share are many (Jaccard).
  """
  pool = offer.pool
  left = [row for row in offer.rows if pool.has_room([row])]
  outputs = {row: pool.examples[row].output for row in left}
  ids = {row: pool.input_ids(row) for row in left}
  are_labels = len(set(outputs.values())) <= len(left) // 2
  taken: dict[str, int] = {}
  nearest = dict.fromkeys(left, 0.0)  # how much of an input is known
  order, misses = [], 0
  while left and misses < _MISSES:
    row = min(
      left,
      key=lambda x: (are_labels and taken.get(outputs[x], 0), nearest[x]),
    )
    left.remove(row)
    if len(pool.fitting([*order, row])) == len(order):
      misses += 1
      continue
    order.append(row)
    taken[outputs[row]] = taken.get(outputs[row], 0) + 1
    for other in left:
      nearest[other] = max(nearest[other], _alike(ids[row], ids[other]))
  return pool.place(order, [*order, *(x for x in offer.rows if x not in order)])


def _alike(one: frozenset[int], other: frozenset[int]) -> float:
  return len(one & other) / max(1, len(one | other))


def _best(
  model: "Model", offers: Sequence[Offer], batch_size: int
) -> list[Fitted]:
  """Of each offer the choice under which examples outside it are likeliest.

  All choices are judged by the same examples, which none of them may read.
  """
  choices, judges = [], []
  for offer in offers:
    rest, own = _divided(offer)
    judges.append(own)
    choices.append([rest.pool.fit(rest.rows), _diverse(rest)])
    for seed in range(len(choices[-1]), _CHOICES):
      order = random.Random(seed).sample(list(rest.rows), len(rest.rows))
      choices[-1].append(rest.pool.fit(order))
  written = write(model, [[x] for own in choices for x in own])
  asked = [
    asking.Asked(example, adapter)
    for i, adapter in enumerate(written)
    for example in judges[i // _CHOICES]
  ]
  found = iter(asking.answer(model, asked, batch_size, is_decoded=False))
  best = []
  for offer, own, by in zip(offers, choices, judges, strict=True):
    sums = [sum(next(found).log_likelihood for _ in by) for _ in own]
    kept = own[int(np.argmax(sums))].rows
    others = [row for row in offer.rows if row not in kept]
    best.append(offer.pool.place(kept, [*kept, *others]))
  return best


def _divided(offer: Offer) -> tuple[Offer, list[Example]]:
  """What may be read, and half of the examples at most, which judge."""
  drawn = random.Random(0).sample(list(offer.rows), len(offer.rows))
  judges = set(drawn[: min(_JUDGES, len(drawn) // 2)])
  rest = [row for row in offer.rows if row not in judges]
  if not offer.pool.has_room(rest):
    return offer, []
  own = [offer.pool.examples[row] for row in sorted(judges)]
  return Offer(offer.pool, rest), own
