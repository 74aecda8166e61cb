"""A SentencePiece model as a tokenizer.json, which some of transformers' classes want."""

import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

# Texts of many letters, signs and blanks: two tokenizers that make the same ids of
# them differ in no rule that either has.
TEXTS = (
  "The quick brown fox, who jumps over 23 lazy dogs!",
  'translate English to German: "That is good." (see p. 407)',
  "Où est  la bibliothèque?\tStraße, niño, čeština ",
  "print(x[0] + y_1)  # 3.14 == π, ½ and ﬁ",
  "日本語 and 🙂",
)
# The same, and T5's extra ids.
PROBES = (*TEXTS, "and <extra_id_0> word <extra_id_1> .")


def written(
  path: str, extra_ids: int, encode: Callable[[str], list[int]]
) -> str | None:
  """The content of a tokenizer.json with the same ids, for known words at least.

  None where there is none: the model is neither of unigrams nor of words, the library
  is not installed, or what it makes has other ids. (A model of words has one id for
  several unknown words in a row, where here each has one.)

  Args:
    path: the model file.
    extra_ids: on top of it.
    encode: what the model itself makes of a text.
  """
  if importlib.util.find_spec("tokenizers") is None:
    return None
  model, protos = _model(path)
  kind, kinds = model.trainer_spec.model_type, protos.TrainerSpec
  if kind not in (kinds.UNIGRAM, kinds.WORD):
    return None
  probes = PROBES
  if kind == kinds.WORD:
    normal = [x.piece for x in model.pieces if x.type == x.NORMAL]
    probes = (" ".join(piece.replace("▁", "") for piece in normal),)
  extra = [f"<extra_id_{i}>" for i in reversed(range(extra_ids))]
  tokenizer = _tokenizer(model, extra)
  if any(encode(x) != _ids(tokenizer, x) for x in probes):
    return None
  return tokenizer.to_str(pretty=True)


def is_of_words(path: str) -> bool:
  """Whether a model file's pieces are words, which transformers' T5Tokenizer lacks."""
  model, protos = _model(path)
  return model.trainer_spec.model_type == protos.TrainerSpec.WORD


def _model(path: str) -> tuple[Any, Any]:
  """A model file as protobuf has it, and the module of its classes."""
  from sentencepiece import sentencepiece_model_pb2

  protos: Any = sentencepiece_model_pb2
  model = protos.ModelProto()
  model.ParseFromString(pathlib.Path(path).read_bytes())
  return model, protos


def _ids(tokenizer: Any, text: str) -> list[int]:
  return tokenizer.encode(text, add_special_tokens=False).ids


def _tokenizer(model: Any, extra: Sequence[str]) -> Any:
  tokenizers: Any = importlib.import_module("tokenizers")
  pieces = [(piece.piece, piece.score) for piece in model.pieces]
  pieces += [(token, 0.0) for token in extra]
  unk_id = model.trainer_spec.unk_id
  if model.trainer_spec.model_type == model.trainer_spec.UNIGRAM:
    inner = tokenizers.models.Unigram(
      pieces, unk_id=unk_id, byte_fallback=model.trainer_spec.byte_fallback
    )
  else:
    numbers = {piece: i for i, (piece, _) in enumerate(pieces)}
    inner = tokenizers.models.WordLevel(numbers, unk_token=pieces[unk_id][0])
  made = tokenizers.Tokenizer(inner)
  charsmap = model.normalizer_spec.precompiled_charsmap
  if charsmap:
    made.normalizer = tokenizers.normalizers.Precompiled(charsmap)
  before = tokenizers.pre_tokenizers
  blanks = {"replacement": "▁", "prepend_scheme": "always"}
  made.pre_tokenizer = before.Sequence(
    [before.WhitespaceSplit(), before.Metaspace(**blanks)]
  )
  made.decoder = tokenizers.decoders.Metaspace(**blanks)
  eos_id = model.trainer_spec.eos_id
  if eos_id >= 0:
    eos = pieces[eos_id][0]
    made.post_processor = tokenizers.processors.TemplateProcessing(
      single=f"$A {eos}",
      pair=f"$A {eos} $B {eos}",
      special_tokens=[(eos, eos_id)],
    )
  kinds = model.SentencePiece
  special = [
    x.piece for x in model.pieces if x.type in (kinds.CONTROL, kinds.UNKNOWN)
  ]
  made.add_special_tokens([*special, *extra])
  own = [x.piece for x in model.pieces if x.type == kinds.USER_DEFINED]
  made.add_tokens(own)
  return made
