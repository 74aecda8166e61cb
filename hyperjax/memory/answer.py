"""`OutOfMemory`: what was asked for, what there is, and what to set instead.

Imports no jax: the command line needs it for every command.
"""

import errno
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

GIB = 2**30
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_AMOUNT = r"([\d.]+) ?([KMGTP]?)(?:i?B| ?bytes?)?\b"
# As XLA on hosts and GPUs, XLA on TPUs, and numpy say what they were asked for.
_ASKED = (
  re.compile(r"[Aa]llocat(?:e|ing) " + _AMOUNT),
  re.compile(r"[Uu]sed " + _AMOUNT + " of"),
)
_SIGNS = ("RESOURCE_EXHAUSTED", "std::bad_alloc", "Out of memory")


class Fitting(NamedTuple):
  """What was found to fit of a batch; None: as much as was asked for."""

  rows: int | None = None
  inputs: int | None = None  # tokens of each, as the next two
  targets: int | None = None
  demonstrations: int | None = None
  num_demonstrations: int | None = None  # of each context
  contexts: int | None = None  # whose adapters are written together

  @property
  def lengths(self) -> dict[str, int]:
    """Those of its features that had to be shortened."""
    return {
      name: value
      for name, value in self._asdict().items()
      if value is not None and name not in ("rows", "contexts")
    }


class OutOfMemory(MemoryError):  # noqa: N818 - an answer
  """More memory is needed than there is; the message says what to do.

  Attributes:
    what: is too large, in words.
    asked: bytes that it takes, None where nobody says.
    available: bytes that there are, None where nobody says.
    advice: which setting to change, and to what.
    fitting: finds what would fit of a batch, by compiling it; None where not even
      a row does, or where it is not a batch that is too large.
  """

  def __init__(
    self,
    what: str,
    asked: int | None = None,
    available: int | None = None,
    advice: str = "",
  ):
    super().__init__(what, asked, available, advice)
    self.what, self.asked, self.available = what, asked, available
    self.advice = advice
    self.fitting: Callable[[], Fitting | None] = lambda: None

  def __str__(self) -> str:
    takes = "more memory than there is"
    if self.asked is not None:
      takes = f"{gib(self.asked)} of memory"
    said = f"{self.what} takes {takes}"
    if self.available is not None:
      said += f", {gib(self.available)} are free for it"
    return f"{said}: {self.advice}" if self.advice else said

  def advised(self, advice: str) -> "OutOfMemory":
    """The same, saying what to do."""
    found = OutOfMemory(self.what, self.asked, self.available, advice)
    found.fitting = self.fitting
    return found


def gib(count: int) -> str:
  """A number of bytes as people read it."""
  size = count / GIB
  return f"{size:,.1f} GiB" if size >= 0.1 else f"{size:.2g} GiB"


def found(error: BaseException) -> BaseException | None:
  """What lacked memory, of an error and those that it came from.

  XLA's RESOURCE_EXHAUSTED, whenever it comes, numpy's and Python's MemoryError,
  C++'s std::bad_alloc, the system's ENOMEM; None where it is something else.
  """
  return next((each for each in _chain(error) if _lacks(each)), None)


def asked_for(error: BaseException) -> int | None:
  """Bytes that an error says were asked for."""
  if isinstance(error, OutOfMemory):
    return error.asked
  for pattern in _ASKED:
    if amount := pattern.search(str(error)):
      number, unit = amount.groups()
      return int(float(number) * 1024 ** _UNITS[unit])
  return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  seen: list[BaseException] = []
  while error is not None and error not in seen:
    seen.append(error)
    yield error
    error = error.__cause__


def _lacks(error: BaseException) -> bool:
  if isinstance(error, OSError):
    return error.errno == errno.ENOMEM
  # XLA's class has had several names, in several modules.
  is_of_xla = isinstance(error, RuntimeError) and any(
    sign in str(error) for sign in _SIGNS
  )
  return isinstance(error, MemoryError) or is_of_xla
