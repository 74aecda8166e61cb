"""Adapters updated with further examples: what is combined, and what is said.

Where each demonstration is encoded by itself, the encoder's output that is kept of
the old ones makes an update exact (`encoded_examples`). Where they are joined in one
row, each was read beside the others, and a new one changes what all of them mean:
there an update is the mean of two adapters, weighted by examples, which is
approximate.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder, encoded_examples
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import Lengths
from hyperjax.serving import average
from hyperjax.serving.examples import Example, Fitted
from hyperjax.serving.tuning import FURTHER

ENCODED, MEAN = "encoded", "mean"  # what an update was made by
_DIGITS = 16  # of an example's hash


def read_from(fitted: Fitted) -> dict[str, Any]:
  """What an adapter's origin says of the examples that it was written from."""
  pairs = [[example.input, example.output] for example in fitted.kept]
  return {
    "sha256": _sha256({"instruction": fitted.instruction, "examples": pairs}),
    "count": len(fitted.kept),
    "dropped": len(fitted.dropped),
    "examples": [_digest(example) for example in fitted.kept],
  }


def check(
  info: adapter_folder.Info, hypermodel: str, lengths: Lengths, name: Any
) -> None:
  """Refuses to update what another hypermodel wrote, or what read otherwise.

  Args:
    info: of the adapter.
    hypermodel: the identity of the one that reads the new examples.
    lengths: that it reads with.
    name: of the adapter, for messages.

  Raises:
    ValueError: as it says.
  """
  theirs = info.lengths.get("num_demonstrations", 0) > 0
  if theirs != lengths.are_separate:
    ways = {True: "each by itself", False: "joined in one row"}
    raise ValueError(
      f"{name} was written from examples encoded {ways[theirs]}; this model "
      f"encodes them {ways[lengths.are_separate]}"
    )
  identity = _written(info, name)["hypermodel"]["identity"]
  if identity != hypermodel:
    raise ValueError(
      f"{name} was written by the hypermodel {identity[:16]} "
      f"({info.origin['hypermodel'].get('run')}); this one is "
      f"{hypermodel[:16]}: an update takes the same, `hyperjax adapter average` "
      "any of the same T5"
    )


def exactly(
  old: Adapter,
  both: encoded_examples.Encoded,
  fitted: Fitted,
  arrays: adapters.Adapters,
) -> Adapter:
  """The adapter whose `arrays` were written from old and new encodings."""
  origin = _updated(old, read_from(fitted), {"by": ENCODED})
  info = dataclasses.replace(old.info, origin=origin, check=None)
  return Adapter(info, arrays, both)


def by_mean(old: Adapter, new: Adapter) -> Adapter:
  """The mean of two adapters of a task, by the examples each was written from.

  It keeps its spec, so that updates stay as cheap, and as exchangeable, as what
  they update: a mean with more slots (of LoRA) is cut to the old number, and
  the share that this leaves out is in the history.
  """
  counts = [_count(adapter) for adapter in (old, new)]
  facts: dict[str, Any] = {"by": MEAN}
  found = average.combined([old, new], counts, ["the old adapter", "the new"])
  if found.info.spec != old.info.spec:
    found, error = average.truncate(found, old.info.spec)
    facts["left_out"] = error
  origin = _updated(old, new.info.origin["demonstrations"], facts)
  info = dataclasses.replace(old.info, origin=origin, check=None)
  return Adapter(info, found.arrays)


def choose(
  given: Sequence[Example], info: adapter_folder.Info, name: Any
) -> list[Example]:
  """Those of `given` that an adapter was written from, in the order of reading.

  Raises:
    ValueError: some are lacking.
  """
  own = collections.defaultdict(list)
  for example in given:
    own[_digest(example)].append(example)
  wanted = _written(info, name)["demonstrations"]["examples"]
  lacking = sum(digest not in own for digest in wanted)
  if lacking:
    raise ValueError(
      f"{lacking} of the {len(wanted)} examples that {name} was written from "
      f"are not among the {len(given)} that are given to check it"
    )
  # An example that was read twice may be given once.
  return [
    own[digest].pop() if len(own[digest]) > 1 else own[digest][0]
    for digest in wanted
  ]


def repeated(info: adapter_folder.Info, fitted: Fitted) -> list[Example]:
  """New examples that an adapter was already written from."""
  known = set(info.origin["demonstrations"]["examples"])
  return [example for example in fitted.kept if _digest(example) in known]


def _updated(
  old: Adapter, new: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
  """An origin with the examples of both, and one more update in its history."""
  origin = dict(old.info.origin)
  further = origin.pop(FURTHER, None)  # said of arrays that are others now
  before = origin["demonstrations"]
  step = {
    **facts,
    "of": old.identity,
    **{name: new[name] for name in ("count", "dropped", "sha256")},
    **({} if further is None else {FURTHER: further}),
  }
  origin["demonstrations"] = {
    "sha256": _sha256([before["sha256"], new["sha256"]]),
    **{
      name: before[name] + new[name]
      for name in ("count", "dropped", "examples")
    },
  }
  origin["updates"] = [*origin.get("updates", []), step]
  return origin


def _written(info: adapter_folder.Info, name: Any) -> Mapping[str, Any]:
  """An origin that says which hypermodel wrote it, from which examples."""
  origin = info.origin
  hypermodel = origin.get("hypermodel") or {}
  if "identity" not in hypermodel or "examples" not in origin.get(
    "demonstrations", {}
  ):
    raise ValueError(
      f"{name} does not say which hypermodel wrote it from which examples: it "
      "is a mean, imported, or of an earlier version; write it again from its "
      "examples, or take the mean with another (`hyperjax adapter average`)"
    )
  return origin


def _count(adapter: Adapter) -> int:
  return adapter.info.origin["demonstrations"]["count"]


def _digest(example: Example) -> str:
  return _sha256([example.input, example.output])[:_DIGITS]


def _sha256(content: Any) -> str:
  text = json.dumps(content, ensure_ascii=False)
  return hashlib.sha256(text.encode()).hexdigest()
