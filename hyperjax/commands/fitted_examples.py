"""What was read of a file of examples, for the lines that `adapt` prints."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from hyperjax.serving.examples import Example, Fitted


@contextlib.contextmanager
def naming(path: Any) -> Iterator[None]:
  """Within it, what refuses examples names their file."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def report(
  path: Any,
  folder: Any,
  read: "Sequence[Fitted]",
  model: Any,
  select: str | None = None,
  given: "Sequence[Example]" = (),
) -> list[str]:
  """How many examples of a file were read, and which were not.

  Args:
    path: of the file.
    folder: of the adapter.
    read: by one adapter, or by several whose mean it is.
    model: that read them.
    select: how they were chosen, where that could be otherwise.
    given: all of the file's, of which copies were not read.
  """
  from hyperjax.batch import sequences
  from hyperjax.serving import examples, selection

  copies = examples.copies(given)
  whole, lengths = selection.joined(read), model.lengths
  rows = sequences(whole.tokens)
  total = len(whole.kept) + len(whole.dropped) + len(copies)
  room = lengths.demonstrations
  most = f"at most {room}"
  if lengths.are_separate:
    # An update reads more than in training where more are given.
    most = (
      f"at most {max(lengths.num_demonstrations, len(rows))} rows of {room}"
    )
  if len(read) > 1:
    most += f" in each of {len(read)} groups"
  lines = [
    f"{path}: {len(whole.kept)} of {total} examples read, "
    f"{sum(map(len, rows))} tokens of {most}; adapter in {folder}"
  ]
  return lines + _dropped(whole, room, select, copies)


def _dropped(
  whole: "Fitted", room: int, select: str | None, copies: "Sequence[Example]"
) -> list[str]:
  """One line about all examples that were not read, if there are any."""
  from hyperjax.serving import remarks

  long = [x.line for x, size, _ in whole.dropped if size > room]
  others = [x.line for x, size, _ in whole.dropped if size <= room]
  said = []
  if copies:
    said.append(
      f"{len(copies)} given before" + remarks.at(x.line for x in copies)
    )
  if long:
    said.append(
      f"{len(long)} longer than the room for any, {room} tokens"
      + remarks.at(long)
    )
  if others:
    said.append(f"{len(others)} for lack of room" + remarks.at(others))
  if not said:
    return []
  hint = (
    "; --select chooses which are read" if others and select == "first" else ""
  )
  return [f"  not read: {'; '.join(said)}{hint}"]
