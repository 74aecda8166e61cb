"""The compiled programs that answer rows, and the adapters that they hold.

Adapters lie side by side on the devices, in as many places as there is room for; the
first place is the plain T5's. A program is given the place of each row's adapter, so a
batch of many adapters moves none of them. All shapes are compiled ahead: rows and
lengths are rounded up to those that there are.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import adapters
from hyperjax.adapters import Adapters
from hyperjax.artifacts.adapter_folder import Adapter, Info
from hyperjax.batch import pad
from hyperjax.memory import program
from hyperjax.memory.program import Program
from hyperjax.models import decode_cache, row_decoding, t5, t5_steps
from hyperjax.server.shapes import Shapes
from hyperjax.serving.backbone import Backbone


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
  """An adapter as the programs take it; each object is another one to them."""

  info: Info
  arrays: Adapters  # numpy, [L, 1, ...], filled up to what the programs hold
  adapter: Adapter  # as it was written


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """What one row is asked."""

  tokens: np.ndarray  # what the encoder reads
  held: Held | None = None  # its adapter; None is the plain T5
  temperature: float = 0.0
  top_p: float = 1.0
  limit: int  # tokens of its answer at most
  key_data: tuple[int, int] = (0, 0)
  given: Sequence[int] = ()  # an answer that is only scored
  tells_top: bool = False  # whether the likeliest tokens are wanted, too


@dataclasses.dataclass(frozen=True)
class Found:
  """What a decode has come to, of as many rows as were given."""

  tokens: np.ndarray  # [B, T]
  log_probs: np.ndarray  # [B, T]
  is_done: np.ndarray  # [B]
  position: int  # tokens that there are of a row that is not done
  top: tuple[np.ndarray, np.ndarray] | None  # ids and values [B, T, TOP]


class Programs:
  """Not safe for several threads: whoever owns it starts and advances decodes."""

  def __init__(
    self,
    backbone: Backbone,
    spec: adapters.Spec,
    num_held: int,
    most_rows: int,
  ):
    """Describes programs; arrays are placed, and nothing is compiled yet.

    Args:
      backbone: the T5.
      spec: of the adapters that there is room for.
      num_held: places for adapters; there are as many as a batch has rows at least.
      most_rows: of a batch.
    """
    self.backbone, self.spec = backbone, spec
    self.shapes = Shapes(backbone.lengths, most_rows, backbone.layout.padded)
    num_held = max(num_held, *(rows for rows, _ in self.shapes.all))
    self._like = _like(backbone, spec)
    # Least recently used first; the plain T5 is at 0 for good.
    self._places: collections.OrderedDict[Held, int] = collections.OrderedDict()
    self._free = list(range(num_held, 0, -1))
    config, layout = backbone.config, backbone.layout
    with layout.activate():  # once: a decode is in parts, each a program
      prepared = functools.partial(t5_steps.prepared, config)
      self._params = jax.jit(prepared)(backbone.params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(self._like))
    program.refuse_held(
      f"{num_held} adapters in memory",
      size * (num_held + 1),
      list(layout.mesh.devices.flat),
      f"set --adapters_in_memory: each takes {size} bytes",
    )
    self._stored = jax.tree.map(
      lambda leaf: jax.device_put(
        np.repeat(leaf, num_held + 1, axis=1), layout.replicated
      ),
      self._like,
    )
    num_tokens = backbone.vocabulary.size
    places = _places(layout)
    self._start = Program(
      functools.partial(row_decoding.start, config),
      "beginning a decode",
      static_argnames=("max_length",),
      out_shardings=places,
    )
    self._advance = Program(
      functools.partial(row_decoding.advance, config, num_tokens=num_tokens),
      "decoding",
      donate_argnums=(1,),
      out_shardings=places,
    )
    self._put = Program(
      _put,
      "placing an adapter",
      donate_argnums=(0,),
      out_shardings=layout.replicated,
    )

  @property
  def num_compiled(self) -> int:
    every = (self._start, self._advance, self._put)
    return sum(one.num_compiled for one in every)

  def forget(self, some: Sequence[Held]) -> None:
    """Makes room where adapters were that nobody will ask again."""
    for held in some:
      if (place := self._places.pop(held, None)) is not None:
        self._free.append(place)

  @property
  def num_held(self) -> int:
    """Adapters that are on the devices now."""
    return len(self._places)

  def prepared(self, adapter: Adapter, where: str) -> Held:
    """An adapter as the programs take it; any thread may ask.

    Raises:
      ValueError: it is of another T5, or has more than there is room for.
    """
    self.backbone.check(adapter.info, where)
    both = adapters.stack([t5.NO_ADAPTERS, self._like, adapter.arrays])
    own = jax.tree.map(lambda leaf: leaf[:, -1:], both)
    shapes = [
      jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (own, self._like)
    ]
    if shapes[0] != shapes[1]:
      raise ValueError(
        f"{where} holds {adapter.info.spec.label}; this server has room for "
        f"{self.spec.label}, as its model writes, and for less of the same kind"
      )
    arrays = jax.tree.map(
      lambda leaf, like: np.asarray(leaf, like.dtype), own, self._like
    )
    return Held(adapter.info, arrays, adapter)

  def compile(self, tell: Callable[[int, int], None]) -> None:
    """Runs each shape once; `tell` hears how many are done, of how many."""
    nothing = Held(None, self._like, None)  # pyright: ignore[reportArgumentType]: nobody asks for its info
    self._place_all([nothing])
    self.forget([nothing])
    for done, (rows, length) in enumerate(self.shapes.all):
      tell(done, len(self.shapes.all))
      ids = np.full(length, self.backbone.config.eos_ids[0], np.int32)
      running = self.start([Asked(tokens=ids, limit=2)] * rows)
      # Twice: a decode that goes on has the shapes of one that has begun.
      running, _ = self.advance(running, rows, 1)
      running = self.ended(running, [False] * rows)
      self.advance(running, rows, self.most_tokens)
    tell(len(self.shapes.all), len(self.shapes.all))

  @property
  def most_tokens(self) -> int:
    """Of an answer, its end counted."""
    return self.backbone.lengths.targets

  def start(self, asked: Sequence[Asked]) -> row_decoding.Running:
    """A decode before its first token."""
    layout = self.backbone.layout
    places = self._place_all([one.held for one in asked])
    length = self.shapes.length_of(max(len(one.tokens) for one in asked))
    lacking = self.shapes.rows_of(len(asked), length) - len(asked)

    def filled(values: Sequence[Any], fill: Any, dtype: Any) -> np.ndarray:
      return np.asarray([*values, *[fill] * lacking], dtype)

    tokens = [one.tokens for one in asked]
    given = [one.given for one in asked] + [()] * lacking
    by_rows = (
      filled(places, 0, np.int32),
      pad(
        [*tokens, *tokens[-1:] * lacking], length, self.backbone.config.pad_id
      ),
      row_decoding.RowOptions(
        temperature=filled([one.temperature for one in asked], 0, np.float32),
        top_p=filled([one.top_p for one in asked], 1, np.float32),
        limit=filled([one.limit for one in asked], 0, np.int32),
        key_data=filled([one.key_data for one in asked], (0, 0), np.uint32),
        given=pad(given, self.most_tokens, -1),
        tells_top=None,
      ),
    )
    slots_B, tokens_BS, options = jax.device_put(by_rows, layout.batch)
    tells_top = np.bool_(any(one.tells_top for one in asked))
    tells_top = jax.device_put(tells_top, layout.replicated)
    with layout.activate():
      return self._start(
        self._params,
        self._stored,
        slots_B,
        tokens_BS,
        options.replace(tells_top=tells_top),
        max_length=self.most_tokens,
      )

  def advance(
    self, running: row_decoding.Running, count: int, until: int
  ) -> tuple[row_decoding.Running, Found]:
    """The decode at a position, and what its first `count` rows came to.

    What is given is consumed.
    """
    layout = self.backbone.layout
    limit = jax.device_put(np.int32(until), layout.replicated)
    with layout.activate():
      running = self._advance(self._params, running, limit)
    shown: list[Any] = [
      running.tokens,
      running.log_probs,
      running.is_done,
      running.position,
      running.options.tells_top,
    ]
    tokens, log_probs, is_done, position, tells_top = jax.device_get(shown)
    top = None
    if tells_top:
      found = jax.device_get([running.top_tokens, running.top_log_probs])
      top = (found[0][:count], found[1][:count])
    return running, Found(
      tokens[:count], log_probs[:count], is_done[:count], int(position), top
    )

  def ended(
    self, running: row_decoding.Running, is_done: Sequence[bool]
  ) -> row_decoding.Running:
    """The decode with those rows done that are told."""
    rows = len(running.is_done)
    whole = np.asarray([*is_done, *[True] * (rows - len(is_done))])
    return dataclasses.replace(
      running, is_done=jax.device_put(whole, self.backbone.layout.batch)
    )

  def _place_all(self, own: Sequence[Held | None]) -> list[int]:
    """Where each adapter is; those that are not there yet are put there."""
    needed = {held for held in own if held is not None}
    for held in needed & self._places.keys():
      self._places.move_to_end(held)
    for held in needed - self._places.keys():
      if not self._free:
        # Not one of this batch: they have just been used, and fit together.
        self._free.append(self._places.popitem(last=False)[1])
      place = self._free.pop()
      layout = self.backbone.layout
      given = jax.device_put((held.arrays, np.int32(place)), layout.replicated)
      with layout.activate():
        self._stored = self._put(self._stored, *given)
      self._places[held] = place
    return [0 if held is None else self._places[held] for held in own]


def _put(stored: Adapters, own: Adapters, place: jax.Array) -> Adapters:
  return jax.tree.map(
    lambda leaf, one: leaf.at[:, place].set(one[:, 0]), stored, own
  )


def _like(backbone: Backbone, spec: adapters.Spec) -> Adapters:
  """The plain T5 as an adapter of such a spec: numpy, [L, 1, ...]."""
  config = backbone.config
  zeros = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, config.dtype), spec.abstract(config)
  )
  both = adapters.stack([t5.NO_ADAPTERS, zeros])
  return jax.tree.map(lambda leaf: leaf[:, :1], both)


def _places(layout: Any) -> row_decoding.Running:
  """Where the arrays of a decode are: rows with their contexts."""
  rows, contexts, whole = layout.batch, layout.contexts, layout.replicated
  cache = decode_cache.Cache(
    own=rows,
    cross=rows,
    own_keys=rows,
    cross_keys=rows,
    distances=whole,
    origins=rows,
    index=whole,
  )
  options = row_decoding.RowOptions(
    temperature=rows,
    top_p=rows,
    limit=rows,
    key_data=rows,
    given=rows,
    tells_top=whole,
  )
  return row_decoding.Running(
    position=whole,
    tokens=rows,
    log_probs=rows,
    top_tokens=rows,
    top_log_probs=rows,
    is_done=rows,
    previous=rows,
    cache=cache,
    adapters=contexts,
    options=options,
  )
