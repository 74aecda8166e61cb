"""Logits of one T5 on fixed inputs: by HyperJAX, and by transformers."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hyperjax.interop import weights

TOLERANCE = 1e-4  # of a logit, or of its share where it is above 1

_ROWS, _INPUTS, _TARGETS = 3, 24, 9


def inputs(vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Encoder and decoder ids; rows end in padding of different lengths."""
  generator = np.random.default_rng(0)
  encoder_BS = generator.integers(2, vocab_size, (_ROWS, _INPUTS), np.int32)
  lengths = _INPUTS - 5 * np.arange(_ROWS)
  encoder_BS *= np.arange(_INPUTS) < lengths[:, None]
  decoder_BT = generator.integers(2, vocab_size, (_ROWS, _TARGETS), np.int32)
  decoder_BT[:, 0] = 0  # starts every target
  return encoder_BS, decoder_BT


def of_source(source: weights.T5Source) -> np.ndarray:
  """Ours, in float32 whatever the type of the weights."""
  return of_adapters(source, inputs(source.config.vocab_size))[0]


def of_adapters(
  source: weights.T5Source, tokens: tuple[np.ndarray, np.ndarray], *written: Any
) -> list[np.ndarray]:
  """Ours under each of some adapters; of the T5 alone where none are given."""
  import jax

  from hyperjax.models import forward, t5

  config = dataclasses.replace(
    source.config, dtype="float32", param_dtype="float32", remat="none"
  )
  params = weights.load(source, config).params
  encoder_BS, decoder_BT = tokens
  apply = jax.jit(functools.partial(forward.logits, config))
  # Accelerators would otherwise multiply in fewer bits.
  with jax.default_matmul_precision("highest"):
    return [
      np.asarray(apply(forward.Setting(params, encoder_BS, each), decoder_BT))
      for each in written or [t5.NO_ADAPTERS]
    ]


def has_transformers() -> bool:
  return all(
    importlib.util.find_spec(name) for name in ("torch", "transformers")
  )


def of_transformers(
  folder: pathlib.Path,
  tokens: tuple[np.ndarray, np.ndarray] | None = None,
  change: Callable[[Any], Any] = lambda model: model,
) -> np.ndarray:
  """Those of transformers, which must be installed.

  Args:
    folder: of the T5.
    tokens: encoder and decoder ids; by default `inputs`.
    change: what is done to the model that was loaded.
  """
  import torch  # pyright: ignore[reportMissingImports]: not required
  import transformers  # pyright: ignore[reportMissingImports]: not required

  kind: Any = transformers.T5ForConditionalGeneration
  model = kind.from_pretrained(folder, local_files_only=True)
  model = change(model.float()).eval()
  encoder_BS, decoder_BT = tokens or inputs(model.config.vocab_size)
  with torch.no_grad():
    found = model(
      input_ids=torch.tensor(encoder_BS, dtype=torch.long),
      attention_mask=torch.tensor(encoder_BS > 0, dtype=torch.long),
      decoder_input_ids=torch.tensor(decoder_BT, dtype=torch.long),
    )
  return found.logits.numpy()


def difference(found: np.ndarray, wanted: np.ndarray) -> tuple[float, bool]:
  """The largest difference, and whether all are within `TOLERANCE`."""
  apart = np.abs(found.astype(np.float64) - wanted)
  within = apart <= TOLERANCE * np.maximum(1, np.abs(wanted))
  return float(apart.max()), bool(within.all())
