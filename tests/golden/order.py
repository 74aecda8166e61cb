"""What runs are given in which order: the content of `order.json`."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from hyperjax.batch import Lengths, assemble
from hyperjax.data import episodes, pairs, text
from hyperjax.data.store import store
from tests.data import rows

SEED = 20
# The first thousand, beyond the first block of tasks, and very far.
FIRST = range(1000)
LATER = (
  range(16_300, 16_500),
  range(49_100, 49_200),
  range(24_600_000, 24_600_050),
)
LENGTHS = Lengths(inputs=12, targets=5, demonstrations=60)
SEPARATE = Lengths(12, 5, demonstrations=16, num_demonstrations=6)
READERS = ("hypermodel", "backbone")
CUT = text.CaclmLengths(before=6, prompt=2, continuation=5, after=7)


def compute() -> dict[str, Any]:
  """As JSON."""
  few = episodes.FewShot((1, 6), 2)
  told = episodes.FewShot((0, 5), 1, READERS)
  tasks = _tasks()
  return {
    "episodes": _episodes(episodes.Episodes(tasks, few, LENGTHS, SEED)),
    "episodes with instructions": _episodes(
      episodes.Episodes(_told(tasks), told, LENGTHS, SEED)
    ),
    "separate demonstrations": _episodes(
      episodes.Episodes(_told(tasks), told, SEPARATE, SEED)
    ),
    "demonstrations of another split": _episodes(
      episodes.Episodes(tasks, few, LENGTHS, SEED, _pools(tasks))
    ),
    "caclm": _texts(text.Caclm(_documents(), CUT, LENGTHS, SEED)),
    "caclm with short documents": _texts(
      text.Caclm(_documents(), CUT, LENGTHS, SEED, min_length=9)
    ),
    "prefix language modelling": _texts(
      text.PrefixLm(_documents(), LENGTHS, SEED, min_length=8)
    ),
    "pairs": _texts(pairs.Pairs(tasks, LENGTHS, SEED)),
    "side by side": _side_by_side(tasks),
  }


def _tasks() -> list[store.Task]:
  """Sizes, rates and lengths differ; some inputs come twice, one row is long."""
  found = []
  sizes, rates = (40, 37, 301, 12), (1.0, 2.0, 5.0, 0.07)
  for number, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
    own = []
    for i in range(size):
      own_text = i // 2 if i % 4 == 2 else i  # or an earlier row's
      length = 90 if i == 5 else 1 + (7 * own_text + number) % 13
      first = 10 + 400 * number + own_text
      inputs = [first + (3 * k) % 11 for k in range(length)]
      own.append((inputs, [2000 + first + k for k in range(1 + i % 6)]))
    found.append(rows.task(f"task_{number}", own, rate))
  return found


def _told(tasks: list[store.Task]) -> list[store.Task]:
  return [
    store.Task(
      task.name,
      task.split,
      task.rows,
      task.rate,
      instruction=np.arange(3000, 3000 + 4 * i + 1, dtype=np.int32),
    )
    for i, task in enumerate(tasks)
  ]


def _pools(tasks: list[store.Task]) -> list[store.Task]:
  return [
    rows.numbered(task.name, 9 + i, first=5000 + 50 * i, length=2)
    for i, task in enumerate(tasks)
  ]


def _documents() -> list[store.Task]:
  lengths = [60, 45, 200, 11, 9, 150, 31] * 6
  return [
    rows.documents("books", lengths, 100),
    store.Task(
      "papers", "train", rows.documents("papers", lengths[:9], 77).rows, 0.4
    ),
  ]


def _episodes(source: episodes.Episodes) -> dict[str, Any]:
  """Rows and drops by hash, a hundred at a time; the first few whole."""
  return {
    "first": [_episode(source.episode(i)) for i in FIRST[:5]],
    "rows": [
      _digest(_episode(source.episode(i)) for i in block)
      for block in _blocks((FIRST, *LATER))
    ],
    "tokens": _batches(source, (FIRST[:100], LATER[0][-50:])),
    "num_too_long": [source.num_too_long(i) for i in range(len(source.tasks))],
  }


def _episode(episode: episodes.Episode) -> list[Any]:
  shown, targets = episode.demonstrations, episode.targets
  return [episode.task, targets.tolist(), shown.tolist(), episode.num_dropped]


def _texts(source: Any) -> dict[str, Any]:
  return {
    "first": [_context(source[i]) for i in FIRST[:3]],
    "tokens": _batches(source, (*_blocks((FIRST[:500],)), *LATER)),
    "num_skipped": source.num_skipped,
  }


def _context(context: Any) -> dict[str, Any]:
  found: dict[str, Any] = {
    "inputs": [np.asarray(x).tolist() for x in context.inputs],
    "targets": [np.asarray(x).tolist() for x in context.targets],
  }
  if context.demonstrations is not None:
    found["demonstrations"] = context.demonstrations.tolist()
  return found


def _side_by_side(tasks: list[store.Task]) -> dict[str, Any]:
  per_task = pairs.PerTask(3, max_rows=17, num_demonstrations=4)
  source = pairs.SideBySide(tasks, LENGTHS, per_task, SEED)
  return _texts(source) | {
    "demonstrations": _array_digest(source.demonstrations())
  }


def _blocks(ranges: Iterable[range]) -> list[range]:
  return [
    own[first : first + 100]
    for own in ranges
    for first in range(0, len(own), 100)
  ]


def _batches(source: Any, blocks: Iterable[range]) -> list[str]:
  """Of batches as they are trained on."""
  found = []
  for block in blocks:
    batch = assemble([source[i] for i in block], source.lengths)
    fields = (getattr(batch, name) for name in sorted(vars(batch)))
    parts = [_array_digest(x) for x in fields if x is not None]
    found.append(_digest(parts))
  return found


def _array_digest(array: np.ndarray) -> str:
  kind = f"{array.dtype.str} {array.shape} ".encode()
  return hashlib.sha256(kind + array.tobytes()).hexdigest()[:16]


def _digest(values: Iterable[Any]) -> str:
  return hashlib.sha256(repr(list(values)).encode()).hexdigest()[:16]
