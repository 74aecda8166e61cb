"""A T5 for CTranslate2, and the log-probabilities that it gives.

Made by CTranslate2's own converter of a folder of Hugging Face.
"""

import importlib
import json
import pathlib
from typing import Any

import numpy as np

VOCABULARY = "shared_vocabulary.json"


def convert(folder: pathlib.Path, out: pathlib.Path, is_scaled: bool) -> None:
  """Converts the T5 in `folder`, which must have its tokenizer beside it.

  Args:
    folder: of Hugging Face.
    out: the folder that is made.
    is_scaled: whether the decoder's output is scaled. The converter takes that
      from `tie_word_embeddings`, which current versions of transformers set for
      every T5.

  Raises:
    ValueError: CTranslate2 cannot convert it.
  """
  converters = importlib.import_module("ctranslate2.converters")

  class Converter(converters.TransformersConverter):
    def load_model(self, *arguments: Any, **options: Any) -> Any:
      model = super().load_model(*arguments, **options)
      model.config.tie_word_embeddings = is_scaled
      return model

  try:
    Converter(str(folder)).convert(str(out))
  except (ValueError, OSError, RuntimeError) as error:
    raise ValueError(f"CTranslate2 cannot convert the T5: {error}") from error


def log_probs(
  folder: pathlib.Path, tokens: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
  """Of each decoder id after the first, given those before: float32 [B, T - 1].

  Args:
    folder: of CTranslate2.
    tokens: encoder ids [B, S] with padding of 0, and decoder ids [B, T], of which
      the first starts them.
  """
  library = importlib.import_module("ctranslate2")
  words = json.loads((folder / VOCABULARY).read_text())
  translator = library.Translator(
    str(folder), device="cpu", compute_type="float32"
  )
  encoder_BS, decoder_BT = tokens
  scored = translator.score_batch(
    [[words[i] for i in np.trim_zeros(row, "b")] for row in encoder_BS],
    [[words[i] for i in row[1:]] for row in decoder_BT],
  )
  # The last is that of the end, which is added to every target.
  return np.array([x.log_probs[:-1] for x in scored], np.float32)


def of_logits(logits_BTV: np.ndarray, decoder_BT: np.ndarray) -> np.ndarray:
  """The same, of logits: float32 [B, T - 1]."""
  logits_BTV = logits_BTV[:, :-1].astype(np.float64)
  largest_BT1 = logits_BTV.max(axis=-1, keepdims=True)
  sums_BT = np.log(np.exp(logits_BTV - largest_BT1).sum(axis=-1))
  own_BT = np.take_along_axis(
    logits_BTV - largest_BT1, decoder_BT[:, 1:, None], axis=-1
  )[..., 0]
  return (own_BT - sums_BT).astype(np.float32)
