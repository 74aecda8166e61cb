"""The text of a compiled program: its operations, and how often each runs."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_ITEM_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|condition|true_computation|false_computation)"
  r"=%?([\w.\-]+)"
)
_SEVERAL = re.compile(r"(?:branch|called)_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"?known_trip_count"?:?=?\{"?n"?[:=]"?(\d+)"?\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_CONSTANT = re.compile(r" constant\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_IN_FAST_MEMORY = re.compile(r"S\([1-9]\d*\)")


class Array(NamedTuple):
  """One array of a type, and whether it lies in the device's main memory."""

  size: int  # bytes
  is_in_memory: bool


class Operation(NamedTuple):
  """One line of a computation."""

  name: str
  arrays: tuple[Array, ...]  # of its result
  kind: str  # such as "dot", "fusion", "all-gather-start"
  operands: tuple[str, ...]
  is_root: bool
  line: str

  @property
  def size(self) -> int:
    """Bytes of its result."""
    return sum(array.size for array in self.arrays)

  @property
  def called(self) -> list[str]:
    """Computations that it names, once for all of what runs in the background."""
    if self.kind in ("async-update", "async-done"):
      return []
    found = _CALLED.findall(self.line)
    for several in _SEVERAL.findall(self.line):
      found += [name.strip(" %") for name in several.split(",")]
    return found


class Program(NamedTuple):
  """Computations by name, and how often each runs in all."""

  computations: Mapping[str, list[Operation]]
  times: Mapping[str, int]
  entry: str


def read(text: str) -> Program:
  """A program from its text.

  Raises:
    ValueError: it has no entry.
  """
  computations: dict[str, list[Operation]] = {}
  entry = None
  for name, is_entry, lines in blocks(text):
    computations[name] = [
      found for line in lines if (found := operation(line)) is not None
    ]
    if is_entry:
      entry = name
  if entry is None:
    raise ValueError("a compiled program's text has no ENTRY computation")
  return Program(computations, _times(computations, entry), entry)


def blocks(text: str) -> Iterator[tuple[str, bool, list[str]]]:
  """Each computation's name, whether it is the entry, and its lines."""
  name, is_entry, lines = "", False, []
  for line in text.splitlines():
    if header := _HEADER.match(line):
      name, is_entry, lines = header[2], bool(header[1]), []
    elif line.startswith("}"):
      if name:
        yield name, is_entry, lines
      name = ""
    elif name:
      lines.append(line)


def operation(line: str) -> Operation | None:
  """What a line of a computation says; None where it says nothing."""
  text = line.strip()
  is_root = text.startswith("ROOT ")
  name, equals, rest = text.removeprefix("ROOT ").partition(" = ")
  if not equals:
    return None
  end = _end(rest) if rest.startswith("(") else rest.index(" ")
  shape, rest = rest[:end], rest[end:].strip()
  kind, bracket, arguments = rest.partition("(")
  if not bracket:
    return None
  inside = arguments[: _end("(" + arguments) - 2]
  return Operation(
    name.strip("%"),
    tuple(arrays(shape)),
    kind,
    tuple(_NAME.findall(inside)),
    is_root,
    text,
  )


def _end(text: str) -> int:
  """Where the bracket that a text begins with is closed: after it."""
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return i + 1
  return len(text)


def arrays(shape: str) -> Iterator[Array]:
  """The arrays of a type, such as "(bf16[2,8]{1,0:T(8,128)S(1)}, s32[])"."""
  for kind, extents, layout in _ARRAY.findall(shape):
    bits = _ITEM_BITS.get(kind)
    if bits is None:
      digits = re.search(r"\d+", kind)
      if digits is None:
        continue
      bits = int(digits[0])
    count = 1
    for extent in extents.split(","):
      if extent:
        count *= int(extent.removeprefix("<="))
    yield Array(count * bits // 8, not _IN_FAST_MEMORY.search(layout))


def _times(
  computations: Mapping[str, list[Operation]], entry: str
) -> dict[str, int]:
  """How often each computation runs: bodies of loops as often as these turn."""
  times: dict[str, int] = {}

  def walk(name: str, often: int) -> None:
    times[name] = times.get(name, 0) + often
    for operation in computations.get(name, ()):
      turns = 1
      if operation.kind == "while":
        turns = _turns(operation, computations)
      for called in operation.called:
        walk(called, often * turns)

  walk(entry, 1)
  return times


def _turns(loop: Operation, computations: Mapping[str, list[Operation]]) -> int:
  """How often the body of a loop runs; 1 where the text does not say.

  Compilers for hosts and GPUs write it down. That for TPUs does not, so it is what
  the loop's counter, which begins at 0, is compared with.
  """
  if found := _TRIPS.search(loop.line):
    return int(found[1])
  condition = _CONDITION.search(loop.line)
  if condition is None:
    return 1
  lines = [each.line for each in computations.get(condition[1], ())]
  bounds = [int(x) for line in lines for x in _CONSTANT.findall(line)]
  return max(bounds, default=1)
