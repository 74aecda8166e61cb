"""Logits of one T5 on fixed inputs: by HyperJAX, and by transformers."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hyperjax.interop import hf_config, weights
from hyperjax.models.t5_layers import T5Config

# Of the largest logit, or of 1 where that is below: float32 errors of a sum are of
# its largest terms, however small the sum itself.
TOLERANCE = 1e-4

_ROWS, _INPUTS, _TARGETS = 3, 24, 9


def inputs(config: T5Config) -> tuple[np.ndarray, np.ndarray]:
  """Encoder and decoder ids; rows end in padding of different lengths."""
  lengths_B = _INPUTS - 5 * np.arange(_ROWS)
  return draw(config, lengths_B, _TARGETS)


def draw(
  config: T5Config, lengths_B: np.ndarray, num_targets: int
) -> tuple[np.ndarray, np.ndarray]:
  """Random ids [B, S] and [B, T] as this T5 reads them, S the longest length."""
  generator = np.random.default_rng(0)
  shape, longest = (len(lengths_B), max(lengths_B)), max(lengths_B)
  encoder_BS = generator.integers(2, config.vocab_size, shape, np.int32)
  is_read_BS = np.arange(longest) < lengths_B[:, None]
  encoder_BS = np.where(is_read_BS, encoder_BS, np.int32(config.pad_id))
  shape = (len(lengths_B), num_targets)
  decoder_BT = generator.integers(2, config.vocab_size, shape, np.int32)
  decoder_BT[:, 0] = config.start_id
  return encoder_BS, decoder_BT


def of_source(source: weights.T5Source) -> np.ndarray:
  """Ours, in float32 whatever the type of the weights."""
  return of_adapters(source, inputs(source.config))[0]


def of_adapters(
  source: weights.T5Source, tokens: tuple[np.ndarray, np.ndarray], *written: Any
) -> list[np.ndarray]:
  """Ours under each of some adapters; of the T5 alone where none are given."""
  import jax

  from hyperjax.models import forward, t5

  config = dataclasses.replace(
    source.config,
    dtype="float32",
    param_dtype="float32",
    remat="none",
    attention="plain",
    matmul_precision="highest",
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

  kind: Any = transformers.AutoModelForSeq2SeqLM
  model = kind.from_pretrained(folder, local_files_only=True)
  model = change(model.float()).eval()
  config, _ = hf_config.read(folder)
  encoder_BS, decoder_BT = tokens or inputs(config)
  with torch.no_grad():
    found = model(
      input_ids=torch.tensor(encoder_BS, dtype=torch.long),
      attention_mask=torch.tensor(
        encoder_BS != config.pad_id, dtype=torch.long
      ),
      decoder_input_ids=torch.tensor(decoder_BT, dtype=torch.long),
    )
  return found.logits.numpy()


def difference(found: np.ndarray, wanted: np.ndarray) -> tuple[float, bool]:
  """The largest difference, and whether it is within `TOLERANCE`."""
  apart = float(np.abs(found.astype(np.float64) - wanted).max())
  return apart, apart <= TOLERANCE * max(1.0, float(np.abs(wanted).max()))
