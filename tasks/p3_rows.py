"""Rows of P3's subsets, as seqio tasks have them. Needs TensorFlow."""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.data.store.tokenising import Tokenized
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.tasks import p3_files

_log = logging.getLogger(__name__)

NO_LABEL = "<NO LABEL>"
_NUM_CHECKED = 8  # rows whose ids are compared with their text's


def rows(
  split: p3_files.Split, vocabulary: SentencePiece | None
) -> Iterator[dict[str, Any]]:
  """Rows of an ordinary subset, those without a label left out and counted.

  So are blank targets. With a vocabulary rows carry the stored ids, without one
  text alone.
  """
  left_out = {NO_LABEL: 0, "": 0}
  for first, columns in p3_files.read(
    split, [p3_files.PAIR, p3_files.WITH_CHOICES]
  ):
    inputs, targets = _pairs(split, first, columns, vocabulary)
    texts = p3_files.texts(split, first, columns["targets_pretokenized"])
    choices = columns.get("answer_choices")
    for i, text in enumerate(texts):
      if text.strip() in left_out:
        left_out[text.strip()] += 1
        continue
      own = () if choices is None else choices[i]
      yield {
        "inputs": inputs[i],
        "targets": targets[i],
        "references": [text.strip()],
        "choices": [p3_files.text(split, first + i, x) for x in own],
        "id": str(first + i),
      }
  for kind, number in left_out.items():
    if number:
      _log.warning(
        "%s: %d of %d rows have %s and are left out",
        split.records,
        number,
        split.num_examples(),
        "no label" if kind else "a blank target",
      )


def demonstrations(
  split: p3_files.Split, vocabulary: SentencePiece | None
) -> Iterator[dict[str, Any]]:
  """Rows of an ordinary subset, with the fields of `scored_rows`."""
  for row in rows(split, vocabulary):
    (reference,) = row["references"]
    is_correct = [choice.strip() == reference for choice in row["choices"]]
    yield row | {"is_correct": is_correct, "weight": 1.0}


def scored_rows(
  split: p3_files.Split, vocabulary: SentencePiece | None
) -> Iterator[dict[str, Any]]:
  """One row for each example of a `*_score_eval` subset, by example number.

  The target is the first correct choice; the first choice where none is.

  Raises:
    ValueError: an example lacks a choice, has one twice, or its records
      disagree on what they share.
  """
  records = list(_choice_records(split, vocabulary))
  records.sort(key=lambda record: (record["example"], record["choice"]))
  for number, group in itertools.groupby(records, lambda r: r["example"]):
    yield _example(split, number, list(group))


def _choice_records(
  split: p3_files.Split, vocabulary: SentencePiece | None
) -> Iterator[dict[str, Any]]:
  for first, columns in p3_files.read(split, [p3_files.OF_CHOICES]):
    idx = columns["idx"]
    wrong = np.flatnonzero(idx.lengths != 2)
    if not len(wrong):
      wrong = np.flatnonzero(idx.values.reshape(-1, 2).min(axis=1) < 0)
    if len(wrong):
      raise ValueError(
        f"{split.records}, record {first + wrong[0]}: 'idx' must be the numbers "
        f"of example and choice, got {idx[wrong[0]].tolist()}"
      )
    inputs, targets = _pairs(split, first, columns, vocabulary)
    texts = p3_files.texts(split, first, columns["targets_pretokenized"])
    for i, (example, choice) in enumerate(idx.values.reshape(-1, 2).tolist()):
      yield {
        "example": example,
        "choice": choice,
        "inputs": inputs[i],
        "targets": targets[i],
        "text": texts[i].strip(),
        "is_correct": bool(columns["is_correct"][i]),
        "weight": float(columns["weight"][i]),
      }


def _example(
  split: p3_files.Split, number: int, group: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  where = (
    f"P3 subset {split.folder.name!r}, split {split.name!r}, example {number}"
  )
  numbers = [record["choice"] for record in group]
  if numbers != list(range(len(group))):
    raise ValueError(
      f"{where}: its choices must be numbered from 0, each once; got "
      f"{', '.join(map(str, numbers))}"
    )
  for name in ("inputs", "weight"):
    values = [_text_of(record[name]) for record in group]
    if values.count(values[0]) != len(values):
      raise ValueError(f"{where}: its choices differ in their {name}")
  weight = group[0]["weight"]
  if not 0 <= weight < math.inf:
    raise ValueError(f"{where}: 'weight' must be 0 or more, got {weight}")
  correct = [record for record in group if record["is_correct"]]
  return {
    "inputs": group[0]["inputs"],
    "targets": (correct or group)[0]["targets"],
    "references": [record["text"] for record in correct],
    "choices": [record["text"] for record in group],
    "is_correct": [record["is_correct"] for record in group],
    "weight": weight,
    "id": str(number),
  }


def _text_of(value: Any) -> Any:
  return value.text if isinstance(value, Tokenized) else value


def _pairs(
  split: p3_files.Split,
  first: int,
  columns: Mapping[str, Any],
  vocabulary: SentencePiece | None,
) -> tuple[list[str | Tokenized], list[str | Tokenized]]:
  """Inputs and targets of a batch, with stored ids if there is a vocabulary.

  Inputs get the end of sequence, which P3 stores with targets alone.
  """
  inputs, targets = (
    p3_files.texts(split, first, columns[f"{name}_pretokenized"])
    for name in ("inputs", "targets")
  )
  if vocabulary is None:
    return list(inputs), list(targets)
  if not first:
    for name, texts in (("inputs", inputs), ("targets", targets)):
      _check_ids(split, name, columns[name], texts, vocabulary)
  eos_id = vocabulary.eos_id
  wrong = np.flatnonzero(~columns["targets"].ends_with(eos_id))
  if len(wrong):
    raise ValueError(
      f"{split.records}, record {first + wrong[0]}: its target ids do not end "
      f"in the end of sequence, {eos_id}"
    )
  for name, texts, least in (("input", inputs, 0), ("target", targets, 1)):
    for i in np.flatnonzero(columns[f"{name}s"].lengths == least):
      if texts[i].strip():
        raise ValueError(f"{split.records}, record {first + i}: no {name} ids")
  closed = columns["inputs"].append(eos_id)
  return (
    [Tokenized(text, closed[i]) for i, text in enumerate(inputs)],
    [Tokenized(text, columns["targets"][i]) for i, text in enumerate(targets)],
  )


def _check_ids(
  split: p3_files.Split,
  name: str,
  stored: p3_files.Ragged,
  texts: Sequence[str],
  vocabulary: SentencePiece,
) -> None:
  """Refuses stored ids of another vocabulary than the one they are read in."""
  for i, text in enumerate(texts[:_NUM_CHECKED]):
    made = vocabulary.encode(text)
    if name == "targets" and vocabulary.eos_id is not None:
      made.append(vocabulary.eos_id)
    if stored[i].tolist() != made:
      raise ValueError(
        f"{split.records}, record {i}: the stored {name}, "
        f"{stored[i][:6].tolist()} ..., are not those of {vocabulary.path}, "
        f'{made[:6]} ...: set p3.P3.tokens to "text", or p3.P3.vocabulary to '
        "T5's own"
      )
