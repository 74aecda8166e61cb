"""Damaged files, and what a reader may answer to one.

A reader is given what was cut, flipped, overwritten, moved, or made up. It answers
with a ValueError that names the file, or with what the file holds, if that is still
something; never with another exception, and never with memory that a number in
the file asks for.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
from hypothesis import strategies as st

_MEMORY = 1 << 24  # bytes that a reader may take for a file of any size
_PER_BYTE = 64  # and for each byte of the file
_SECONDS = 60  # until a reader hangs
_DEEP = "a deeply nested list"
_ODD = (
  *(None, True, False, 0, -1, 1, 2, 3.5, 2**31, 2**40, 2**62, 2**64, 10**400),
  *(-(2**63), 1e300, math.nan, math.inf),
  *("", "x", "../x", "a/b", "\0", "\ud800", "x" * 5000, _DEEP),
  *([], {}, [[]], [0], [None], [2**62, 0], ["x"], {"x": {}}, {"kind": "x"}),
)
_NUMBERS = (0, 1, 127, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


@dataclasses.dataclass(frozen=True)
class Case:
  """A reader, and one of its files that is damaged.

  Attributes:
    name: of the test.
    write: puts whole files into an empty folder.
    file: the damaged one of them, from that folder.
    read: everything that is read of the folder.
    is_json: whether values are exchanged too, in one object or in lines of them.
    named: what refusals name; by default the file.
  """

  name: str
  write: Callable[[pathlib.Path], Any]
  file: str
  read: Callable[[pathlib.Path], Any]
  is_json: bool = False
  named: str | None = None

  def __str__(self) -> str:
    return self.name


def damaged(case: Case, valid: bytes) -> st.SearchStrategy[bytes]:
  """Contents that are near to `valid`, and some that are not."""
  kinds = [_changed(valid), st.binary(max_size=200)]
  return st.one_of(*kinds, *([_exchanged(valid)] * 2 if case.is_json else []))


@st.composite
def _changed(draw: Any, valid: bytes) -> bytes:
  """One to three times cut, flipped, overwritten, thinned or doubled."""
  content = valid
  kinds = ["flip", "write", "number"]
  # Files whose size is checked are refused at once where it is another.
  kinds += ["cut", "lose", "double"] * draw(st.booleans())
  for _ in range(draw(st.integers(1, 3))):
    start = draw(st.integers(0, max(0, len(content) - 1)))
    # Headers are at the beginning, and decide what all else means.
    if draw(st.booleans()):
      start = start % 64
    end = start + draw(st.integers(1, 40))
    kind = draw(st.sampled_from(kinds))
    if kind == "cut":
      content = content[:start]
    elif kind == "flip" and start < len(content):
      flipped = content[start] ^ (1 << draw(st.integers(0, 7)))
      content = content[:start] + bytes([flipped]) + content[start + 1 :]
    elif kind == "write":
      written = draw(st.binary(min_size=1, max_size=40))
      written = written[: len(content) - start]
      content = content[:start] + written + content[start + len(written) :]
    elif kind == "number":
      number = draw(st.sampled_from(_NUMBERS))
      size = draw(st.sampled_from((2, 4, 8)))
      order = draw(st.sampled_from(("little", "big")))
      written = (number % 2 ** (8 * size)).to_bytes(size, order)
      written = written[: len(content) - start]
      content = content[:start] + written + content[start + len(written) :]
    elif kind == "lose":
      content = content[:start] + content[end:]
    elif kind == "double":
      content = content[:end] + content[start:]
  return content


@st.composite
def _exchanged(draw: Any, valid: bytes) -> bytes:
  """JSON, or one line of it, in which a value is another, gone or new."""
  lines = valid.decode().splitlines()
  try:
    lines, line = [valid.decode()], 0
    value = json.loads(lines[0])
  except ValueError:
    lines = valid.decode().splitlines()
    line = draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[line])
  for _ in range(draw(st.integers(1, 2))):
    places = list(_places(value))
    if not places:
      break
    inside, key = draw(st.sampled_from(places))
    kind = draw(st.sampled_from(("other", "other", "other", "gone", "new")))
    if kind == "gone":
      del inside[key]
    elif kind == "new" and isinstance(inside, dict):
      inside[draw(st.sampled_from(("x", "", "kind")))] = _odd(draw)
    else:
      inside[key] = _odd(draw)
  depth = draw(st.sampled_from((90, 300, 900, 100_000)))
  lines[line] = json.dumps(value).replace(
    f'"{_DEEP}"', "[" * depth + "]" * depth
  )
  return "\n".join(lines).encode()


def _odd(draw: Any) -> Any:
  return json.loads(json.dumps(draw(st.sampled_from(_ODD))))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
  """Where the values in a value stand: in what, and under which key."""
  keys = value if isinstance(value, dict) else range(len(value))
  for key in keys:
    yield value, key
    if isinstance(value[key], dict | list):
      yield from _places(value[key])


def answer(case: Case, folder: pathlib.Path, content: bytes) -> str | None:
  """The sentence that refuses a file of this content; None where it is read.

  Fails where the reader does not answer as it must.
  """
  path = folder / case.file
  path.write_bytes(content)
  tracemalloc.start()
  try:
    with _ended():
      case.read(folder)
    said = None
  except ValueError as error:
    said = str(error)
    named = path.name if case.named is None else case.named
    if named not in said:
      raise AssertionError(f"{said!r:.300} does not name {named}") from error
  finally:
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  allowed = _MEMORY + _PER_BYTE * len(content)
  assert most <= allowed, f"{most} bytes for a file of {len(content)}: {said}"
  return said


@contextlib.contextmanager
def _ended() -> Iterator[None]:
  """Fails where its body does not end."""

  def stop(number: int, frame: Any) -> None:
    raise AssertionError(f"not read after {_SECONDS} s")

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(_SECONDS)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def prepared(case: Case, folder: pathlib.Path) -> bytes:
  """Writes whole files, which are read; returns those bytes to be damaged."""
  case.write(folder)
  case.read(folder)
  return (folder / case.file).read_bytes()


def search(case: Case, folder: pathlib.Path) -> None:
  """Gives a case's reader damaged files, and fails where it fails."""
  valid = prepared(case, folder)

  @hypothesis.given(damaged(case, valid))
  def holds(content: bytes) -> None:
    answer(case, folder, content)

  holds()
