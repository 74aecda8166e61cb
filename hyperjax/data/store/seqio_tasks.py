"""seqio tasks whose rows come from Python: JSON files, generated tasks. Needs seqio.

Such a task is an ordinary seqio task. Because its source can also be read
without tf.data, storing its tokens costs no more than tokenising its text.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from hyperjax.data import vocabularies
from hyperjax.data.store.seqio_vocabulary import SeqioTokenizer
from hyperjax.data.store.tokenising import Row, Tokenized
from hyperjax.data.vocabulary import SentencePiece, Tokenizer

PREPROCESSORS = (
  seqio.preprocessors.tokenize,
  seqio.preprocessors.append_eos,
)


@dataclasses.dataclass(frozen=True)
class Part:
  """Some of a split's rows, which are stored by themselves.

  Attributes:
    name: of its folder.
    read: its rows. It may be called in another process, which has run nothing
      of this one: a `functools.partial` of a module's function, with plain
      arguments.
    made_of: what the rows depend on, as JSON.
  """

  name: str
  read: Callable[[], Iterable[Row]]
  made_of: Any


class RowsSource(seqio.FunctionDataSource):
  """Rows from a Python function, for tf.data and for direct reading alike.

  Args:
    rows: the rows of a split, in a fixed order.
    splits: the splits there are.
    fields: rank of each field: 0 for a string, 1 for a list of strings; with
      another dtype, (rank, dtype).
    made_of: what the rows of a split depend on, as JSON: stored tokens are made
      again when it changes.
    parts: the parts of a split's rows, in their order: they are made side by
      side in several processes, and a build that was stopped goes on with those
      that lack. Without them the rows are made in one go, in this process.
    instruction: returns what says in words what to do, or None; it depends on
      nothing else than the rows.
  """

  def __init__(
    self,
    rows: Callable[[str], Iterable[Row]],
    splits: Sequence[str],
    fields: Mapping[str, int | tuple[int, str]],
    made_of: Callable[[str], Any],
    parts: Callable[[str], Sequence[Part]] | None = None,
    instruction: Callable[[], str | None] = lambda: None,
  ):
    self.rows, self.made_of = rows, made_of
    self.parts, self.instruction = parts, instruction
    kinds = {
      name: (kind, "string") if isinstance(kind, int) else kind
      for name, kind in fields.items()
    }
    signature = {
      name: tf.TensorSpec((None,) * rank, tf.as_dtype(dtype))
      for name, (rank, dtype) in kinds.items()
    }

    def dataset(split: str, shuffle_files: bool = False) -> tf.data.Dataset:
      del shuffle_files  # rows have one order; episodes draw from them
      return tf.data.Dataset.from_generator(
        lambda: map(_as_text, rows(split)), output_signature=signature
      )

    super().__init__(dataset_fn=dataset, splits=splits)  # pyright: ignore[reportArgumentType]: seqio checks the names alone


def _as_text(row: Row) -> Row:
  return {
    name: value.text if isinstance(value, Tokenized) else value
    for name, value in row.items()
  }


def text_feature(
  vocabulary_path: str,
  extra_ids: int,
  add_eos: bool = True,
  setting: str = "DATA_DIR",
) -> Any:
  """A feature in the vocabulary of a tokenizer, as `vocabularies.named` has it.

  Raises:
    ValueError: there is no such file, where `setting` says what names it; or
      it is damaged.
  """
  if not vocabularies.is_here(vocabulary_path):
    raise ValueError(f"{setting}: there is no vocabulary {vocabulary_path}")
  own = vocabularies.named(vocabulary_path, extra_ids)
  own.check()  # seqio would meet a damaged one later, and not say which
  if not isinstance(own, SentencePiece):
    return seqio.Feature(SeqioTokenizer(own), add_eos=add_eos, required=False)
  vocabulary = seqio.SentencePieceVocabulary(own.path, extra_ids)
  return seqio.Feature(vocabulary, add_eos=add_eos, required=False)


# Who registered a name, so that another data set of the same name is refused.
_owners: dict[str, Any] = {}


def add_task(
  name: str,
  source: Any,
  features: Mapping[str, Any],
  owner: Any,
  metric_fns: Sequence[Callable[..., Any]] = (),
  preprocessors: Sequence[Callable[..., Any]] = PREPROCESSORS,
) -> None:
  """Registers a task, unless `owner` has registered it already.

  Raises:
    ValueError: another owner has: the second would never be read.
  """
  if not _is_new(name, seqio.TaskRegistry, owner):
    return
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=list(preprocessors),
    output_features=dict(features),
    metric_fns=list(metric_fns),
  )


def add_mixture(
  name: str,
  tasks: Sequence[str] | Sequence[tuple[str, float]],
  owner: Any,
  rate: float = 1.0,
) -> None:
  """Registers a mixture, as `add_task` does; tasks without a rate have `rate`."""
  if _is_new(name, seqio.MixtureRegistry, owner):
    seqio.MixtureRegistry.add(name, list(tasks), default_rate=rate)


def owner_of(name: str) -> Any:
  """Who registered a task by `add_task`; None for other tasks."""
  return _owners.get(name)


def _is_new(name: str, registry: Any, owner: Any) -> bool:
  if name not in registry.names():
    _owners[name] = owner
    return True
  before = _owners.get(name, "other code")
  if before != owner:
    raise ValueError(
      f"{name!r} is registered already, by {before}; {owner} would have no "
      "effect: give one of them another name"
    )
  return False


def instruction(task: Any) -> str | None:
  """What says in words what a seqio task is, where its source does."""
  if not isinstance(task.source, RowsSource):
    return None
  return task.source.instruction()


def is_direct(task: Any) -> bool:
  """Whether its rows can be tokenised without tf.data, to the same ids."""
  return (
    isinstance(task.source, RowsSource)
    and tuple(task.preprocessors) == PREPROCESSORS
    and all(
      tokenizer_of(feature.vocabulary) is not None
      for feature in task.output_features.values()
    )
  )


def tokenizer_of(vocabulary: Any) -> Tokenizer | None:
  """The tokenizer that a seqio vocabulary stands for; None if for no one's."""
  if isinstance(vocabulary, SeqioTokenizer):
    return vocabulary.tokenizer
  if not is_plain(vocabulary):
    return None
  return SentencePiece(
    vocabulary.sentencepiece_model_file, vocabulary.extra_ids
  )


def is_plain(vocabulary: Any) -> bool:
  """Whether a seqio vocabulary is what `vocabulary.SentencePiece` stands for."""
  if type(vocabulary) is not seqio.SentencePieceVocabulary:
    return False
  default = seqio.SentencePieceVocabulary(
    vocabulary.sentencepiece_model_file, vocabulary.extra_ids
  )
  options = [
    {name: x for name, x in vars(of).items() if name != "_model"}
    for of in (vocabulary, default)
  ]
  return options[0] == options[1] and os.path.isfile(
    vocabulary.sentencepiece_model_file
  )
