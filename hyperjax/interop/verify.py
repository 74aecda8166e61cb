"""Whether transformers computes from an export what HyperJAX computes.

Logits of both on the same inputs, in float32. An export with a wrong name in it
loads with a warning and does nothing, so a small difference is not enough: it
must also be far below what the adapter changes.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.interop import logits, weights
from hyperjax.models.t5_layers import T5Config

# Of float32 logits, relative to the largest where that is above 1: two programs
# that sum in another order are 2e-4 apart on logits of 8, and each as far from
# what float64 gives.
TOLERANCE = 1e-4
# Of an export's error, or of what storing in fewer bits loses, to the effect of
# the adapter.
_WORST_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Reference:
  """What HyperJAX computes on `tokens`."""

  tokens: tuple[np.ndarray, np.ndarray]  # `draw_tokens`
  plain: np.ndarray  # float32 [B, T, V], of the T5 alone
  adapted: np.ndarray  # float32 [B, T, V], with the adapter

  @property
  def effect(self) -> float:
    """The most that the adapter changes a logit."""
    return _distance(self.adapted, self.plain)


def missing(packages: list[str]) -> list[str]:
  """Those of `packages` that are not installed."""
  return [name for name in packages if importlib.util.find_spec(name) is None]


def draw_tokens(config: T5Config) -> tuple[np.ndarray, np.ndarray]:
  """Random encoder and decoder ids; one row passes T5's farthest bucket."""
  return logits.draw(config, np.array([150, 61, 17, 1]), 20)


def reference(
  source: weights.T5Source, written: adapters.Adapters
) -> Reference:
  """HyperJAX's own logits, without and with the adapter.

  Raises:
    ValueError: the adapter changes nothing, so nothing could be told.
  """
  tokens = draw_tokens(source.config)
  nothing = adapters.Adapters()
  plain, adapted = logits.of_adapters(source, tokens, nothing, written)
  found = Reference(tokens, plain, adapted)
  if found.effect == 0:
    raise ValueError(
      "the adapter changes no logit (is it untrained?), so no export of it "
      "can be verified; --no-verify exports it as it is"
    )
  return found


def transformers_logits(
  folder: pathlib.Path,
  tokens: tuple[np.ndarray, np.ndarray],
  peft_folder: pathlib.Path | None = None,
) -> np.ndarray:
  """Of the T5 that transformers reads in `folder`, with PEFT's adapter or none.

  Raises:
    ValueError: PEFT's T5 has other arrays than the adapter's folder.
  """

  def change(model: Any) -> Any:
    return model if peft_folder is None else _with_peft(model, peft_folder)

  with _quiet():
    return logits.of_transformers(folder, tokens, change)


def compare(found: np.ndarray, reference: Reference, where: str) -> str:
  """Says how far logits found are from HyperJAX's; refuses what is too far.

  Raises:
    ValueError: as it says.
  """
  difference = _distance(found, reference.adapted)
  largest = float(np.abs(reference.adapted).max())
  said = (
    f"logits of {where} and of HyperJAX differ by at most {difference:.1e}; "
    f"the adapter changes them by up to {reference.effect:.1e}, the largest "
    f"is {largest:.1e}"
  )
  if not np.isfinite(found).all() or difference > TOLERANCE * max(1, largest):
    raise ValueError(f"the export is wrong: {said}")
  if difference > _WORST_SHARE * reference.effect:
    changed = _distance(found, reference.plain)
    raise ValueError(
      f"the export cannot be told from one that does nothing: {said}; "
      f"{where} changes them by {changed:.1e}"
    )
  return said


def rounded(kept: np.ndarray, reference: Reference, dtype: str) -> str:
  """Says what storing merged weights in `dtype` costs; refuses too much.

  `kept` are HyperJAX's logits of the weights as stored.

  Raises:
    ValueError: as it says.
  """
  lost = _distance(kept, reference.adapted)
  said = (
    f"rounding the sums to {dtype} changes logits by up to {lost:.1e}, the "
    f"adapter by up to {reference.effect:.1e}"
  )
  if lost > _WORST_SHARE * reference.effect:
    raise ValueError(f"too little of the adapter is left: {said}")
  return said


def versions(packages: list[str]) -> str:
  return ", ".join(
    f"{name} {importlib.metadata.version(name)}" for name in packages
  )


def _with_peft(model: Any, folder: pathlib.Path) -> Any:
  # Type checkers take `import peft` for the module beside this one.
  peft: Any = importlib.import_module("peft")
  adapted = peft.PeftModel.from_pretrained(model, str(folder))
  wanted = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
  found = peft.utils.load_peft_weights(str(folder), device="cpu")
  wrong = sorted(found.keys() ^ wanted.keys())
  if wrong:
    side = "has no array for" if wrong[0] in found else "also has"
    raise ValueError(
      f"the export is wrong: the T5 that PEFT makes {side} {wrong[0]} "
      f"({len(wrong)} such)"
    )
  return adapted


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without progress bars and warnings: the logits tell."""
  transformers: Any = importlib.import_module("transformers")
  log = transformers.utils.logging
  before = log.get_verbosity()
  log.set_verbosity_error()
  log.disable_progress_bar()
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    log.set_verbosity(before)
    log.enable_progress_bar()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.abs(a - b).max())
