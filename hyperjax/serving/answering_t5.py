"""Texts that a T5 answers under given adapters, and their log-likelihoods.

A batch has one adapter for all rows, or one for each row; an answer does not
depend on the rows beside it.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from hyperjax import adapters, checks
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import Lengths, pad, power_of_two, trim
from hyperjax.data import instructions
from hyperjax.data.vocabulary import Tokenizer
from hyperjax.memory import program
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.models import decoding, forward, t5
from hyperjax.serving import examples
from hyperjax.serving import given as giving
from hyperjax.serving.backbone import Backbone
from hyperjax.serving.predictor import Predictor

BATCH_SIZE = 32
_LEAST_INPUT = 16  # tokens that an input is padded to at least


@dataclasses.dataclass(frozen=True)
class Options:
  """How inputs are answered.

  Attributes:
    decoder: how tokens are found.
    max_length: tokens of an answer at most; None: as in training.
    batch_size: inputs that are answered together at most.
    seed: of what is drawn.
  """

  decoder: decoding.Decoder = decoding.Greedy
  max_length: checks.Length | None = None
  batch_size: checks.Count = BATCH_SIZE
  seed: checks.Seed = 0

  def __post_init__(self):
    checks.fields(self)


@dataclasses.dataclass(frozen=True)
class Answers:
  """What was decoded for some inputs."""

  texts: list[str]
  tokens: list[list[int]]  # without padding; the last is the end, if it came
  cut: list[int]  # which inputs were longer than in training


class Read(NamedTuple):
  """An input as the T5 meets it."""

  ids: np.ndarray  # with its end, as many as were read in training at most
  is_cut: bool  # whether it was longer


class AnsweringT5:
  """Answers texts in batches of few shapes: rows and inputs of powers of two."""

  def __init__(self, backbone: Backbone):
    self.backbone = backbone
    self._predictor = Predictor(
      backbone.config, backbone.layout, backbone.vocabulary.size
    )
    # Many inputs share an instruction, which is tokenised once.
    self._as_task = functools.lru_cache(
      lambda text: examples.as_task([], backbone.vocabulary, text)
    )

  @property
  def vocabulary(self) -> Tokenizer:
    return self.backbone.vocabulary

  @property
  def lengths(self) -> Lengths:
    """Of what was read in training, or as asked for."""
    return self.backbone.lengths

  def predict(
    self,
    inputs: Iterable[str],
    adapter: giving.GivenAdapter | Sequence[giving.GivenAdapter] | None = None,
    decoder: decoding.Decoder = decoding.Greedy,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
  ) -> list[str]:
    """Its answers to inputs, under an adapter or each under its own.

    Args:
      inputs: texts.
      adapter: for all of them, or one for each, or their folders; None is the
        plain T5.
      decoder: how tokens are found.
      max_length: tokens of an answer at most; None: as in training.
      batch_size: inputs that are answered together at most.
      seed: of what is drawn.

    Raises:
      ValueError: an adapter is of another T5 or tokenizer, or inputs are not a
        list of texts.
    """
    inputs = giving.as_inputs(inputs)
    options = Options(decoder, max_length, batch_size, seed)
    read = giving.as_adapters(adapter)
    is_one = not isinstance(read, list)
    own = read if isinstance(read, list) else [read]
    if not is_one and len(own) != len(inputs):
      raise ValueError(
        "adapters must be one for all inputs, or one for each: there are "
        f"{len(inputs)} inputs, {len(own)} adapters"
      )
    texts = []
    for first in range(0, len(inputs), batch_size):
      some = slice(first, first + batch_size)
      rows = own if is_one else own[some]
      texts += self.answer(inputs[some], rows, options, first).texts
    return texts

  def answer(
    self,
    inputs: Sequence[str | np.ndarray],
    own: Sequence[Adapter | None],
    options: Options = Options(),
    first: int = 0,
  ) -> Answers:
    """Answers to at most a batch of inputs.

    Args:
      inputs: texts, or ids that are read as they are.
      own: the adapter of each, or one for all of them; None is the plain T5.
      options: how.
      first: the number of the first input, which its draws depend on.

    Raises:
      OutOfMemory: they do not fit; it says which batch size does.
    """
    with _advising(len(inputs)):
      setting, cut = self._setting(inputs, own, options.batch_size)
      tokens_BT = self._predictor.decode(
        setting,
        options.max_length or self.lengths.targets,
        options.decoder,
        jax.random.key_data(jax.random.key(options.seed)),
        np.arange(first, first + len(setting.tokens), dtype=np.int32),
      )
    config = self.backbone.config
    tokens = [decoding.written(config, x) for x in tokens_BT[: len(inputs)]]
    texts = [
      # Another end than the tokenizer's own is no text.
      self.vocabulary.decode([i for i in ids if i not in config.eos_ids])
      for ids in tokens
    ]
    return Answers(texts, tokens, cut)

  def score(
    self,
    inputs: Sequence[str | np.ndarray],
    own: Sequence[Adapter | None],
    outputs: Sequence[Sequence[Sequence[int]]],
    batch_size: int = BATCH_SIZE,
  ) -> list[list[float]]:
    """Log-likelihoods of given outputs of each input, summed over their tokens.

    Args:
      inputs: as for answers, at most a batch.
      own: as for answers.
      outputs: token ids of the outputs of each input, as many as there are.
      batch_size: as in `Options`.

    Raises:
      OutOfMemory: as for answers.
    """
    with _advising(len(inputs)):
      setting, _ = self._setting(inputs, own, batch_size)
      return self._predictor.score(setting, outputs)

  def divergence(
    self,
    inputs: Sequence[str],
    one: Adapter,
    other: Adapter,
    answers: Sequence[Sequence[int]],
    batch_size: int = BATCH_SIZE,
  ) -> float:
    """Kullback-Leibler, from `one` to `other`, summed over tokens of answers.

    Args:
      inputs: texts, at most a batch.
      one: whose distributions weigh.
      other: another adapter of the same T5.
      answers: token ids of each input's, which all positions are given.
      batch_size: as in `Options`.

    Raises:
      OutOfMemory: as for answers.
    """
    with _advising(len(inputs)):
      setting, _ = self._setting(inputs, [one], batch_size)
      lacking = len(setting.tokens) - len(answers)
      longest = max(1, *map(len, answers))
      sums_B = self._predictor.divergence(
        setting,
        self._stacked([other], len(setting.tokens)),
        pad(
          [*answers, *[[]] * lacking],
          power_of_two(longest),
          self.backbone.config.pad_id,
        ),
      )
    return float(np.sum(sums_B))

  def encode(self, text: str) -> list[int]:
    """An output's ids, with the T5's own end."""
    ids = examples.encode(self.vocabulary, text)
    ends = self.backbone.config.eos_ids
    if self.vocabulary.eos_id is None or self.vocabulary.eos_id in ends:
      return ids
    return [*ids[:-1], ends[0]]

  def _setting(
    self,
    inputs: Sequence[str | np.ndarray],
    own: Sequence[Adapter | None],
    batch_size: int,
  ) -> tuple[forward.Setting, list[int]]:
    """What the T5 is given, on the mesh, and which inputs were cut.

    Rows are filled to a power of two, or to the batch size if that is less.
    """
    layout = self.backbone.layout
    rows = layout.padded(min(power_of_two(len(inputs)), batch_size))
    tokens_BS, cut = self._tokens(inputs, own, rows)
    setting = forward.Setting(
      self.backbone.params, layout.place(tokens_BS), self._stacked(own, rows)
    )
    return setting, cut

  def _tokens(
    self,
    inputs: Sequence[str | np.ndarray],
    own: Sequence[Adapter | None],
    num_rows: int,
  ) -> tuple[np.ndarray, list[int]]:
    """[rows, S], S the longest rounded up, and which were cut."""
    adapters_B = own if len(own) == len(inputs) else [own[0]] * len(inputs)
    read = [
      self.read(x, adapter) if isinstance(x, str) else Read(x, False)
      for x, adapter in zip(inputs, adapters_B, strict=True)
    ]
    rows = [x.ids for x in read]
    longest = max(len(ids) for ids in rows)
    length = max(_LEAST_INPUT, power_of_two(longest))
    if longest <= self.lengths.inputs:
      length = min(self.lengths.inputs, length)
    # The last row is repeated: an empty one would attend to nothing.
    filled = [*rows, *rows[-1:] * (num_rows - len(rows))]
    pad_id = self.backbone.config.pad_id
    cut = [i for i, x in enumerate(read) if x.is_cut]
    return pad(filled, length, pad_id), cut

  def read(self, text: str, adapter: Adapter | None = None) -> "Read":
    """An input's ids, after the adapter's instruction if a T5 read it so."""
    most = self.lengths.inputs
    ids = self._read(text, adapter)
    return Read(trim(ids, most, self.vocabulary.eos_id), len(ids) > most)

  def _read(self, text: str, adapter: Adapter | None) -> np.ndarray:
    """An input's ids, not yet cut."""
    ids = np.asarray(examples.encode(self.vocabulary, text), np.int32)
    said = None if adapter is None else adapter.info.instruction
    if said is None:
      return ids
    task = self._as_task(said["text"])
    if "ids" in said:
      instruction = np.asarray(said["ids"], np.int32)
      task = dataclasses.replace(task, instruction=instruction)
    room = self.lengths.inputs
    return instructions.for_backbone(task, ids, said["readers"], room)

  def _stacked(
    self, own: Sequence[Adapter | None], num_rows: int
  ) -> adapters.Adapters:
    """Arrays on the mesh, of one context or of as many as there are rows."""
    for adapter in own:
      if adapter is not None:
        self.backbone.check(adapter.info, "the given adapter")
    layout = self.backbone.layout
    arrays = [t5.NO_ADAPTERS if x is None else x.arrays for x in own]
    if len(own) == 1:
      return jax.device_put(arrays[0], layout.replicated)
    arrays += arrays[-1:] * (num_rows - len(arrays))
    return jax.device_put(adapters.stack(arrays), layout.contexts)


@contextlib.contextmanager
def _advising(num_inputs: int) -> Iterator[None]:
  """Within it, what does not fit of a batch of inputs says what would."""
  try:
    with program.answering(f"a batch of {num_inputs} inputs"):
      yield
  except OutOfMemory as error:
    raise error.advised(_advice(error.fitting(), num_inputs)) from error


def _advice(found: Fitting | None, num_inputs: int) -> str:
  """What to set, by its option and as from Python."""
  if found is None:
    return "no shorter input fits; a smaller T5, or more memory is needed"
  settings = {
    "batch_size": min(found.rows or num_inputs, num_inputs),
    "input_length": found.inputs,
    "max_length": found.targets,
  }
  return "set " + " and ".join(
    f"--{name} to {value}" for name, value in settings.items() if value
  )
