"""A model, its adapters and its engine: what the routes stand on."""

import asyncio
import functools
import hashlib
import logging
import pathlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import sequences
from hyperjax.server import bodies
from hyperjax.server.adapter_store import AdapterStore, Stored
from hyperjax.server.checking import Checked
from hyperjax.server.engine import MOST_WRITTEN, Engine
from hyperjax.server.jobs import Stopping
from hyperjax.server.metrics import Metrics
from hyperjax.server.options import Options
from hyperjax.server.programs import Asked, Held, Programs
from hyperjax.server.refusals import Refusal
from hyperjax.serving import model as models
from hyperjax.serving import verdict
from hyperjax.serving.examples import Fitted

_log = logging.getLogger(__name__)
_QUICK = 4096  # characters that are tokenised where others wait for it
_COMPILED = "/jax/core/compile/backend_compile_duration"
_LEAST = 1e-6  # temperature, below which logits leave float32; mass of tokens
READY = "ready"
_WRITTEN = (1, 4, MOST_WRITTEN)  # adapters that are written together


class Service:
  """Made on one thread and then used from the loop of the server.

  From `start` to `stop` its engine answers; first it compiles.
  """

  def __init__(
    self,
    model: models.Model,
    folder: pathlib.Path,
    options: Options,
    tell: Callable[[str], None] = lambda _: None,
  ):
    """Reads the model.

    Args:
      model: a hypermodel's.
      folder: of adapters.
      options: what is allowed.
      tell: hears what is being done until it is ready.
    """
    self.model, self.options, self._tell = model, options, tell
    self.t5_name, self.began = options.t5_name, int(time.time())
    model.backbone.place()
    self.programs = Programs(
      model.backbone,
      model.run.problem.adapters,
      options.in_memory,
      options.batch_size,
    )
    self.metrics = Metrics()
    self.engine = Engine(
      self.programs,
      self._write,
      options.limits,
      self.metrics.batch,
      lambda error: self._fail(f"its engine has ended: {error!r}"),
    )
    self.store = AdapterStore(
      folder,
      self.programs.prepared,
      options.in_memory,
      options.on_disk,
      options.t5_name,
    )
    self.state = "starting"
    self.on_ready: Callable[[], None] = lambda: None
    # What it cannot go on from, and who hears of it, on the engine's thread.
    self.failure: str | None = None
    self.on_failed: Callable[[], None] = lambda: None
    self.num_compiled = 0  # since it was ready
    self._is_stopping = False
    self._watch()

  def start(self) -> None:
    """Begins to compile; `state` says how far it is."""
    for name, fault in self.store.passed_over().items():
      self._tell(f"cannot be asked: {name!r} in {self.store.folder}: {fault}")
    self.engine.start()
    self.engine.call(self._prepare)

  def stop(self) -> None:
    """Returns once all that was taken is answered."""
    self._is_stopping = True
    self.state = "stopping"
    self.engine.stop()

  def check_ready(self) -> None:
    """Refuses what comes too early or too late."""
    if self.state != READY:
      raise Refusal(
        503, f"this server is not ready: {self.state}", code="not_ready"
      )

  async def find(self, name: str) -> Stored:
    """An adapter by name.

    Raises:
      Refusal: there is none that can be used.
    """
    found = self.store.at_hand(name)
    return found or await asyncio.to_thread(self.store.get, name)

  async def rows(self, asked: bodies.Completion) -> tuple[list[Asked], int]:
    """The rows of a request, and how many tokens its prompts have.

    Raises:
      Refusal: there is no such adapter, or a prompt is too long.
    """
    held = None
    if asked.model != self.t5_name:
      held = (await self.find(asked.model)).held
      if asked.examples:
        raise Refusal(
          400,
          f"examples are put before prompts of {self.t5_name!r} alone; got them "
          f"for {asked.model!r}, which was written from its own",
          "examples",
          "bad_value",
        )
    texts = [
      *asked.prompts,
      *(text for pair in asked.examples for text in pair),
    ]
    make = functools.partial(self._rows, asked, held)
    if sum(map(len, texts)) > _QUICK:
      return await asyncio.to_thread(make)
    return make()

  def described(self, name: str, created: int) -> dict[str, Any]:
    """As OpenAI's clients read a model."""
    return {
      "id": name,
      "object": "model",
      "created": created,
      "owned_by": "hyperjax",
      "parent": None if name == self.t5_name else self.t5_name,
    }

  def check(
    self,
    examples: Sequence[tuple[str, str]],
    instruction: str | None,
    metric: str | None,
  ) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The verdict on examples, and what each was answered; takes its own thread."""
    asked = Checked(self.model, self.engine, self.programs)
    options = {} if metric is None else {"metric": metric}
    try:
      # It asks no more of a model than is there.
      found = verdict.check(asked, examples, instruction, **options)  # pyright: ignore[reportArgumentType]
    finally:
      asked.close()
    answers = [
      {
        "input": example.input,
        "output": example.output,
        **{way: column.answers[i] for way, column in found.columns.items()},
      }
      for i, example in enumerate(found.held_out)
    ]
    return found.as_json(), answers

  def _write(self, fitted: Sequence[Fitted]) -> list[Adapter]:
    """Of as many tasks as one of `_WRITTEN`, so that few programs do."""
    size = next(n for n in _WRITTEN if n >= len(fitted))
    filled = [*fitted, *[fitted[-1]] * (size - len(fitted))]
    return self.model.write(filled)[: len(fitted)]

  def _rows(
    self, asked: bodies.Completion, held: Held | None
  ) -> tuple[list[Asked], int]:
    most = self.programs.most_tokens
    shown: list[np.ndarray] = []
    if asked.examples:
      try:
        shown = list(sequences(self.model.fit(asked.examples).tokens))
      except ValueError as error:
        raise Refusal(400, str(error), "examples", "bad_value") from error
    seed = secrets.randbits(63) if asked.seed is None else asked.seed
    found, num_read = [], 0
    for number, text in enumerate(asked.prompts):
      tokens = self._read(number, text, held, shown)
      num_read += len(tokens)
      for answer in range(asked.n):
        found.append(
          Asked(
            tokens=tokens,
            held=held,
            temperature=0 if asked.temperature < _LEAST else asked.temperature,
            top_p=max(asked.top_p, _LEAST),
            limit=min(asked.max_tokens or most, most),
            key_data=_key(seed, number * asked.n + answer),
            tells_top=bool(asked.logprobs),
          )
        )
    return found, num_read

  def _read(
    self,
    number: int,
    text: str,
    held: Held | None,
    shown: Sequence[np.ndarray],
  ) -> np.ndarray:
    ids, is_cut = self.model.read(text, held and held.adapter)
    if is_cut:
      raise Refusal(
        400,
        f"prompt {number} is longer than the {self.model.lengths.inputs} tokens "
        "that this model reads",
        "prompt",
        "context_length_exceeded",
      )
    whole = np.concatenate([*shown, ids])
    if len(whole) > self.programs.shapes.longest:
      raise Refusal(
        400,
        f"prompt {number} has {len(whole)} tokens with its examples, and this "
        f"server reads {self.programs.shapes.longest} at most",
        "examples",
        "context_length_exceeded",
      )
    return whole

  def _prepare(self) -> None:
    """On the engine's thread: compiles all that will ever be asked."""
    began = time.monotonic()

    def tell(done: int, count: int) -> None:
      if self._is_stopping:
        raise Stopping("stopped before it was ready")
      self.state = f"compiling, {done} of {count} shapes are done"
      self._tell(self.state)

    try:
      self.programs.compile(tell)
      self._tell("compiling what writes adapters")
      _write_each_shape(self.model)
      self.model.hypermodel.identity  # noqa: B018 - a property that reads
    except Stopping:
      return
    except Exception as error:
      _log.exception("the server cannot become ready")
      self._fail(f"it cannot become ready: {error}")
      return
    self.on_ready()
    self.num_compiled = 0
    self.state = READY
    self._tell(f"ready after {time.monotonic() - began:.1f} seconds")

  def _fail(self, what: str) -> None:
    self.failure = what
    if not self._is_stopping:
      self.state = f"failed: {what}"
    self.on_failed()

  def _watch(self) -> None:
    """What is asked for when the metrics are read."""

    def heard(event: str, duration_secs: float, **_: Any) -> None:
      del duration_secs
      if event == _COMPILED:
        self.num_compiled += 1

    jax.monitoring.register_event_duration_secs_listener(heard)
    for name, summary, value in (
      ("queue_rows", "Prompts that wait.", lambda: self.engine.num_waiting),
      ("held_adapters", "On devices.", lambda: self.programs.num_held),
      ("read_adapters", "From disk.", lambda: self.store.num_read),
      ("compilations", "Since it was ready.", lambda: self.num_compiled),
    ):
      self.metrics.watch(name, summary, value)


def _write_each_shape(model: models.Model) -> None:
  """Has adapters written of as many contexts, and rows of each, as there can be."""
  ids = np.full(1, model.backbone.config.eos_ids[0], np.int32)
  read: list[Any] = [ids]
  if model.lengths.are_separate:
    most = model.lengths.num_demonstrations.bit_length()
    rows = {
      min(2**i, model.lengths.num_demonstrations) for i in range(most + 1)
    }
    read = [[ids] * n for n in sorted(rows)]
  for one in read:
    for count in _WRITTEN:
      model.hypermodel.write([one] * count)


def _key(seed: int, number: int) -> tuple[int, int]:
  """Of what is drawn for an answer, whatever is beside it."""
  digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
  return int.from_bytes(digest[:4]), int.from_bytes(digest[4:])
