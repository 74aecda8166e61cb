"""What XLA on hosts takes besides what it says: the insides of library calls.

It hands chains of operations, such as attention from scores to outputs, to a
library as one, which allocates what lies between them by itself. No analysis counts
that, and it can be several times the rest.
"""

import math
import re
from collections.abc import Iterator, Mapping

_CALL = re.compile(r'calls=(%[\w.-]+).*"kind":"__(?:ynn|xnn)_fusion"')
_BEGINNING = re.compile(r"^(?:ENTRY )?(%[\w.-]+) .*\{$")
_VALUE = re.compile(
  r"^  (ROOT )?(%[\w.-]+) = (\w+)\[([\d,]*)\]\S* ([\w-]+)\((.*?)\)"
)
_NAME = re.compile(r"%[\w.-]+")


def largest(hlo: str) -> int:
  """Bytes that the largest of a compiled program's library calls holds at once.

  Args:
    hlo: the program's text.
  """
  called = set(_CALL.findall(hlo))
  found = {name: lines for name, lines in _computations(hlo) if name in called}
  return max(map(_most_alive, found.values()), default=0)


def _computations(hlo: str) -> Iterator[tuple[str, list[str]]]:
  name, lines = "", []
  for line in hlo.splitlines():
    if beginning := _BEGINNING.match(line):
      name, lines = beginning[1], []
    elif line == "}":
      yield name, lines
    else:
      lines.append(line)


def _most_alive(lines: list[str]) -> int:
  """Bytes of values between arguments and result, each from first to last use."""
  values = [found for found in map(_VALUE.match, lines) if found]
  last = {
    name: i
    for i, found in enumerate(values)
    for name in _NAME.findall(found[6])
  }
  alive: dict[str, int] = {}
  most = 0
  for i, found in enumerate(values):
    is_root, name, kind, shape, operation, _ = found.groups()
    if not is_root and operation not in ("parameter", "constant"):
      alive[name] = _size(kind, shape)
    most = max(most, sum(alive.values()))
    alive = _kept(alive, last, i)
  return most


def _kept(
  alive: Mapping[str, int], last: Mapping[str, int], now: int
) -> dict[str, int]:
  return {name: n for name, n in alive.items() if last.get(name, now) > now}


def _size(kind: str, shape: str) -> int:
  bits = re.search(r"\d+", kind)  # "pred" has none, and takes a byte
  count = math.prod(int(n) for n in shape.split(",") if n)
  return count * (int(bits[0]) if bits else 8) // 8
