"""Answers of a frozen T5 under given adapters, and their log-likelihoods.

A batch has one adapter for all rows, or one for each row; an answer does not
depend on the rows beside it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import adapters, checks
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import Lengths, pad, pad_choices, power_of_two, trim
from hyperjax.data import instructions
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.models import decoding, objectives, t5
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import examples

_LEAST_INPUT = 16  # tokens that an input is padded to at least


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A T5 with its weights, and how it reads and writes text."""

  config: T5Config
  params: Any
  identity: str
  vocabulary: SentencePiece
  lengths: Lengths

  def check(self, info: adapter_folder.Info, where: str) -> None:
    """Refuses adapters of another T5 or tokenizer.

    Raises:
      ValueError: as it says.
    """
    adapter_folder.check_fits(
      info, self.identity, self.vocabulary.identity, where
    )


@dataclasses.dataclass(frozen=True)
class Answers:
  """What was decoded for some inputs."""

  texts: list[str]
  tokens: list[list[int]]  # without padding; the last is the end, if it came


class Predictor:
  """Answers batches under one adapter for all rows, or one for each row."""

  def __init__(
    self,
    backbone: Backbone,
    decoder: decoding.Decoder = decoding.Greedy,
    max_length: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
  ):
    checks.whole("batch_size", batch_size, 1)
    checks.whole("seed", seed, 0)
    if max_length is not None:
      checks.whole("max_length", max_length, 1)
    self._backbone, self._decoder, self._seed = backbone, decoder, seed
    self.batch_size = batch_size
    self._max_length = max_length or backbone.lengths.targets
    self.num_cut = 0  # inputs that were longer than in training
    # Many inputs share an instruction, which is tokenised once.
    self._as_task = functools.lru_cache(
      lambda text: examples.as_task([], backbone.vocabulary, text)
    )
    self._decode = jax.jit(self._decode_rows)
    self._score = jax.jit(self._score_rows)
    self._diverge = jax.jit(self._divergence_rows)

  def __call__(
    self, inputs: Sequence[str], own: Sequence[Adapter | None], first: int = 0
  ) -> Answers:
    """Answers to at most a batch of inputs.

    Args:
      inputs: texts.
      own: the adapter of each, or one for all of them; None is the plain T5.
      first: the number of the first input, which its draws depend on.
    """
    tokens_BS, num_cut = self._tokens(inputs, own)
    self.num_cut += num_cut
    numbers_B = np.arange(first, first + self.batch_size)
    decoded = jax.device_get(
      self._decode(
        self._backbone.params, self._stacked(own), tokens_BS, numbers_B
      )
    )
    tokens = [
      np.trim_zeros(ids, "b").tolist() for ids in decoded.tokens[: len(inputs)]
    ]
    return Answers(
      [self._backbone.vocabulary.decode(x) for x in tokens], tokens
    )

  def score(
    self,
    inputs: Sequence[str],
    own: Sequence[Adapter | None],
    given: Sequence[Sequence[Sequence[int]]],
  ) -> list[list[float]]:
    """Log-likelihoods of given outputs of each input, summed over their tokens.

    All outputs of an input are scored from one pass of the encoder.

    Args:
      inputs: texts, at most a batch.
      own: as for answers.
      given: token ids of the outputs of each, as many as there are.
    """
    filled = [*given, *[[]] * (self.batch_size - len(given))]
    targets_BAT = pad_choices(filled)
    num_rows, width, length = targets_BAT.shape
    sums = self._score(
      self._backbone.params,
      self._stacked(own),
      self._tokens(inputs, own)[0],
      targets_BAT.reshape(-1, length),
    )
    sums_BA = np.asarray(sums, np.float64).reshape(num_rows, width)
    return [
      sums_BA[row, : len(outputs)].tolist() for row, outputs in enumerate(given)
    ]

  def divergence(
    self,
    inputs: Sequence[str],
    one: Adapter,
    other: Adapter,
    answers: Sequence[Sequence[int]],
  ) -> float:
    """Kullback-Leibler, from `one` to `other`, summed over tokens of answers.

    Args:
      inputs: texts, at most a batch.
      one: whose distributions weigh.
      other: another adapter of the same T5.
      answers: token ids of each input's, which all positions are given.
    """
    filled = [*answers, *[[]] * (self.batch_size - len(answers))]
    longest = max(1, *map(len, filled))
    sums_B = self._diverge(
      self._backbone.params,
      self._stacked([one]),
      self._stacked([other]),
      self._tokens(inputs, [one])[0],
      pad(filled, power_of_two(longest)),
    )
    return float(np.sum(np.asarray(sums_B, np.float64)))

  def encode(self, text: str) -> list[int]:
    """A text's ids, its end counted."""
    return examples.encode(self._backbone.vocabulary, text)

  def _decode_rows(self, params, arrays, tokens_BS, numbers_B):
    seed = jax.random.key(self._seed)
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(seed, numbers_B)
    return decoding.generate(
      t5.T5(self._backbone.config),
      params,
      tokens_BS,
      self._max_length,
      self._decoder,
      adapters=arrays,
      num_tokens=self._backbone.vocabulary.size,
      key=keys_B,
    )

  def _score_rows(self, params, arrays, tokens_BS, targets_BT):
    shifted_BT = jnp.pad(targets_BT, ((0, 0), (1, 0)))[:, :-1]
    logits_BTV: Any = t5.T5(self._backbone.config).apply(
      {"params": params}, tokens_BS, shifted_BT, arrays
    )
    return objectives.log_likelihood(logits_BTV, targets_BT, targets_BT > 0)

  def _divergence_rows(self, params, one, other, tokens_BS, targets_BT):
    shifted_BT = jnp.pad(targets_BT, ((0, 0), (1, 0)))[:, :-1]

    def log_probs(arrays):
      logits_BTV: Any = t5.T5(self._backbone.config).apply(
        {"params": params}, tokens_BS, shifted_BT, arrays
      )
      return jax.nn.log_softmax(logits_BTV)

    one_BTV, other_BTV = log_probs(one), log_probs(other)
    more_BTV = other_BTV - one_BTV
    p_BTV = jnp.exp(one_BTV)
    # q - p sums to 0 and makes each term positive, so that rounding of near
    # equal distributions is not all that is left; expm1 overflows far from 0.
    rest_BTV = jnp.where(
      more_BTV < 1,
      p_BTV * jnp.expm1(jnp.minimum(more_BTV, 1)),
      jnp.exp(other_BTV) - p_BTV,
    )
    terms_BTV = rest_BTV - p_BTV * more_BTV
    return jnp.sum(terms_BTV.sum(-1) * (targets_BT > 0), axis=-1)

  def _tokens(
    self, inputs: Sequence[str], own: Sequence[Adapter | None]
  ) -> tuple[np.ndarray, int]:
    """[batch size, S], S the longest rounded up, and how many were cut."""
    most = self._backbone.lengths.inputs
    adapters_B = own if len(own) == len(inputs) else [own[0]] * len(inputs)
    whole = [
      self._read(text, adapter)
      for text, adapter in zip(inputs, adapters_B, strict=True)
    ]
    eos_id = self._backbone.vocabulary.eos_id
    rows = [trim(ids, most, eos_id) for ids in whole]
    longest = max(len(ids) for ids in rows)
    length = min(most, max(_LEAST_INPUT, power_of_two(longest)))
    # The last row is repeated: an empty one would attend to nothing.
    filled = [*rows, *rows[-1:] * (self.batch_size - len(rows))]
    return pad(filled, length), sum(len(ids) > most for ids in whole)

  def _read(self, text: str, adapter: Adapter | None) -> np.ndarray:
    """An input's ids, after the adapter's instruction if a T5 read it so."""
    ids = np.asarray(self.encode(text), np.int32)
    said = None if adapter is None else adapter.info.instruction
    if said is None:
      return ids
    task = self._as_task(said["text"])
    if "ids" in said:
      instruction = np.asarray(said["ids"], np.int32)
      task = dataclasses.replace(task, instruction=instruction)
    room = self._backbone.lengths.inputs
    return instructions.for_backbone(task, ids, said["readers"], room)

  def _stacked(self, own: Sequence[Adapter | None]) -> adapters.Adapters:
    """Arrays of one context, or of as many as a batch has rows."""
    chosen = [adapter for adapter in own if adapter is not None]
    if not chosen:
      return t5.NO_ADAPTERS
    if len(chosen) < len(own):
      raise ValueError(
        "some inputs of a batch have an adapter and some have none; a batch "
        "has one kind of arrays"
      )
    check_alike([adapter.info for adapter in chosen])
    self._backbone.check(chosen[0].info, "the given adapter")
    if len(own) == 1:
      return chosen[0].arrays
    chosen += chosen[-1:] * (self.batch_size - len(chosen))
    return jax.tree.map(
      lambda *leaves: np.concatenate(leaves, axis=1),
      *[adapter.arrays for adapter in chosen],
    )


def check_alike(
  infos: Sequence[adapter_folder.Info], names: Sequence[Any] | None = None
) -> None:
  """Refuses adapters that cannot meet: of other kinds, ranks or backbones.

  Raises:
    ValueError: names the two that differ, and how.
  """
  names = names or [f"adapter {i}" for i in range(1, len(infos) + 1)]
  for name, info in zip(names, infos, strict=True):
    if info.backbone.identity != infos[0].backbone.identity:
      raise ValueError(
        f"{names[0]} and {name} are of different backbones: "
        f"{infos[0].backbone.identity[:16]} and "
        f"{info.backbone.identity[:16]}"
      )
    if _shape_of(info) != _shape_of(infos[0]):
      raise ValueError(
        f"{names[0]} and {name} are of different kinds: {infos[0].spec} and "
        f"{info.spec}"
      )


def _shape_of(info: adapter_folder.Info) -> dict[str, Any]:
  """What decides which arrays there are; they alone must agree."""
  leaves = adapters.path_leaves(info.spec.leaves(info.config))
  return {path: leaf.shape for path, leaf in leaves.items()}
