"""The tokenizer of a T5, wherever the T5 lies."""

import pathlib
from collections.abc import Sequence

from hyperjax import paths
from hyperjax.artifacts import restore, run_record
from hyperjax.data import files, sentencepiece_json, vocabularies
from hyperjax.data.store.store import Task
from hyperjax.data.vocabulary import SentencePiece, Tokenizer
from hyperjax.interop import formats, hf_config


def of_t5(place: str, vocab_size: int | None = None) -> Tokenizer | None:
  """The tokenizer of a T5 or of the T5 of a run; None where nothing says it.

  Args:
    place: a folder, or the URL of a t5x checkpoint, beside which none is looked for.
    vocab_size: rows of the T5's embedding.

  Raises:
    ValueError: it is said which, but its files are gone or damaged.
  """
  if formats.is_foreign(place):
    return None
  folder = paths.at(place).absolute()
  found = formats.formats(folder)
  run = None if found else restore.recorded(folder)
  if run is not None:
    return of_run(run[1], folder)
  for own in of_folder(folder):
    beside = vocabularies.beside(own, vocab_size)
    if beside is not None:
      return beside
  return None


def of_folder(folder: pathlib.Path) -> list[pathlib.Path]:
  """Where a T5's tokenizer may lie: beside it, of a t5x checkpoint above it too."""
  is_step = folder.name.startswith("checkpoint_")
  return [folder, folder.parent] if is_step else [folder]


def asked_for(
  place: str, vocab_size: int, given: str | None
) -> Tokenizer | None:
  """The tokenizer that is given, else the T5's own; None where nothing says it.

  Args:
    place: of the T5, as for `of_t5`.
    vocab_size: rows of its embedding.
    given: a tokenizer to take instead, as `vocabularies.named` has it.

  Raises:
    ValueError: it is damaged, gone, or has more ids than there are rows.
  """
  if given is None:
    own = of_t5(place, vocab_size)
  else:
    vocabularies.check_here(given)
    own = vocabularies.named(given)
    own.check()
    if isinstance(own, SentencePiece):
      own = own.fitted(vocab_size)
  if own is not None:
    check_room(own, vocab_size, place)
  return own


def files_for_hf(
  place: str, vocab_size: int, given: str | None = None
) -> dict[str, str | bytes]:
  """By name, the files that carry a T5's tokenizer into a folder of Hugging Face.

  Those of a folder of Hugging Face are kept as they are.

  Args:
    place: of the T5, as for `of_t5`.
    vocab_size: rows of its embedding.
    given: a tokenizer to take instead, as `vocabularies.named` has it.

  Raises:
    ValueError: the tokenizer is damaged, gone, or has more ids than there are rows.
  """
  own = asked_for(place, vocab_size, given)
  if own is None:
    return {}
  if given is None and (paths.at(place) / hf_config.CONFIG).is_file():
    folder = paths.at(place)
    kept = [x for x in vocabularies.FILES if (folder / x).is_file()]
    if kept:
      return {name: (folder / name).read_bytes() for name in kept}
  return vocabularies.written(own)


def of_run(
  record: run_record.RunRecord, folder: pathlib.Path
) -> Tokenizer | None:
  """Of a run: what it was trained with, or what its record names."""
  own = record.tokenizer
  if own is None and record.reads is not None:
    own = record.reads.tokenizer
  if own is None:
    return None
  return vocabularies.open_described(
    own.description, folder / restore.VOCABULARY
  )


def check_room(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
  """Refuses a tokenizer with more ids than a T5's embedding has rows.

  Raises:
    ValueError: as it says.
  """
  if tokenizer.size > vocab_size:
    raise ValueError(
      f"{tokenizer.shown} has {tokenizer.size} ids with its extra ones, the T5 of "
      f"{where} only {vocab_size}: it is another model's (--vocabulary)"
    )


def check_tasks(
  tasks: Sequence[Task], initial: str | None, vocab_size: int
) -> None:
  """Refuses tasks in another vocabulary than that of the T5 that a run begins with.

  Two are one if they make the same ids of some texts: the same tokenizer comes in
  several formats.

  Raises:
    ValueError: names the task, and what becomes of a text in each.
  """
  if initial is None or formats.is_foreign(initial):
    return
  if not files.is_folder(paths.at(initial)):
    return
  own = of_t5(initial, vocab_size)
  if own is None:
    return
  seen = set()
  for task in tasks:
    theirs = task.vocabulary
    name = None if theirs is None else str(theirs.description)
    if theirs is None or name in seen:
      continue
    seen.add(name)
    added = [*getattr(own, "added", ()), *getattr(theirs, "added", ())]
    probes = [f"{content} hi" for content, _ in added]
    for text in (*sentencepiece_json.TEXTS, *probes):
      mine, found = own.encode(text), list(theirs.encode(text))
      if mine != found:
        raise ValueError(
          f"task {task.name!r} is in another vocabulary than the T5 of {initial}: "
          f"{text[:20]!r}... is {found[:5]} in its own, {mine[:5]} in "
          f"{own.shown}, so that its rows would mean nothing to this T5"
        )
