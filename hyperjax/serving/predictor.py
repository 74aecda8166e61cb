"""What a T5 answers under adapters: each program compiled once for each shape.

Whoever answers hands it other adapters and inputs, and has no program of its own:
evaluation under its controls, learning curves, `predict` and its scores, updates.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperjax.adapters import Adapters
from hyperjax.batch import pad_choices
from hyperjax.memory.answer import OutOfMemory
from hyperjax.memory.program import Program, answering
from hyperjax.models import decoding, forward
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import broken_rows, fitting
from hyperjax.sharding import Layout


class Predictor:
  """Decodes and scores batches on a mesh.

  Lengths and decoders are keys of what is compiled, seeds are arguments; what is
  compiled lives as long as the object. Arrays of a setting are on the mesh.
  """

  def __init__(self, config: T5Config, layout: Layout, num_tokens: int | None):
    """Describes programs, none of which is compiled yet.

    Args:
      config: of the T5 that answers.
      layout: the mesh.
      num_tokens: how many ids the tokenizer has: others are never decoded.
    """
    self._layout = layout
    self._pad_id, self._eos_ids = config.pad_id, tuple(config.eos_ids)
    self._decode = Program(
      functools.partial(forward.decode, config, num_tokens=num_tokens),
      "decoding",
      static_argnames=("max_length", "decoder"),
      out_shardings=layout.replicated,
    )
    self._score = Program(
      functools.partial(forward.log_likelihood, config),
      "scoring",
      out_shardings=layout.replicated,
    )
    self._diverge = Program(
      functools.partial(forward.divergence, config),
      "comparing",
      out_shardings=layout.replicated,
    )

  def decode(
    self,
    setting: forward.Setting,
    max_length: int,
    decoder: decoding.Decoder = decoding.Greedy,
    key_data: Any = None,
    numbers_B: np.ndarray | None = None,
  ) -> np.ndarray:
    """Token ids [B, T]; what is drawn depends on the last two: `forward.decode`.

    Of a T5 with several ends each stands as the first of them, which its texts have.
    """
    decoded = self._run(
      self._decode,
      fitting.Asked(
        {"setting": setting, "numbers_B": numbers_B},
        {"key_data": key_data, "decoder": decoder},
        max_length,
      ),
    )
    scores_B = np.asarray(decoded.scores)
    broken_rows.check("decoding", scores_B, len(scores_B))
    tokens_BT = np.asarray(decoded.tokens)
    first, *others = self._eos_ids
    if others:
      tokens_BT = np.where(np.isin(tokens_BT, others), first, tokens_BT)
    return tokens_BT

  def log_likelihood(
    self, setting: forward.Setting, targets_BT: np.ndarray
  ) -> np.ndarray:
    """Of each row's targets: float64 [B * A]; row b reads encoder row b // A."""
    targets = self._layout.place(targets_BT)
    asked = fitting.Asked({"setting": setting, "targets_BT": targets})
    sums = np.asarray(self._run(self._score, asked), np.float64)
    return broken_rows.check("scoring", sums, len(setting.tokens))

  def score(
    self,
    setting: forward.Setting,
    outputs: Sequence[Sequence[Any]],
    max_length: int | None = None,
  ) -> list[list[float]]:
    """Log-likelihoods of each row's outputs, all from one pass of its encoder.

    Their number and length are rounded up to powers of two: most outputs are a
    word or two, and logits over the vocabulary are what takes the memory.

    Args:
      setting: of B rows.
      outputs: token ids with the end of sequence; of rows at the end that only
        fill the batch none are needed.
      max_length: that outputs are padded to at most.
    """
    lacking = len(setting.tokens) - len(outputs)
    targets_BAT = pad_choices(
      [*outputs, *[[]] * lacking], max_length, self._pad_id
    )
    num_rows, width, length = targets_BAT.shape
    sums = self.log_likelihood(setting, targets_BAT.reshape(-1, length))
    sums_BA = sums.reshape(num_rows, width)
    return [
      sums_BA[row, : len(own)].tolist() for row, own in enumerate(outputs)
    ]

  def divergence(
    self, setting: forward.Setting, other: Adapters, targets_BT: np.ndarray
  ) -> np.ndarray:
    """As `forward.divergence`: float64 [B]."""
    targets = self._layout.place(targets_BT)
    asked = fitting.Asked(
      {"setting": setting, "other": other, "targets_BT": targets}
    )
    return np.asarray(self._run(self._diverge, asked), np.float64)

  def _run(self, program: Program, asked: fitting.Asked) -> Any:
    """What a program gives of a batch.

    Raises:
      OutOfMemory: it does not fit; its `fitting` says what would.
    """
    with self._layout.activate():
      try:
        with answering(program.what):
          # Some errors come with the result alone.
          return jax.block_until_ready(program(**asked.named))
      except OutOfMemory as error:
        error.what = f"{program.what} {asked.num_rows} rows"
        error.fitting = lambda: fitting.find(program, asked, self._layout)
        raise
