"""What XLA on hosts takes besides what it says: the insides of library calls.

It hands chains of operations, such as attention from scores to outputs, to a
library as one, which allocates what lies between them by itself. No analysis counts
that, and it can be several times the rest.
"""

import re
from collections.abc import Mapping, Sequence

from hyperjax.memory import hlo

_CALL = re.compile(r'calls=%?([\w.-]+).*"kind":"__(?:ynn|xnn)_fusion"')


def largest(text: str) -> int:
  """Bytes that the largest of a compiled program's library calls holds at once.

  Args:
    text: the program's.
  """
  called = set(_CALL.findall(text))
  found = [lines for name, _, lines in hlo.blocks(text) if name in called]
  return max(map(_most_alive, found), default=0)


def _most_alive(lines: Sequence[str]) -> int:
  """Bytes of values between arguments and result, each from first to last use."""
  read = [found for found in map(hlo.operation, lines) if found]
  values = [found for found in read if len(found.arrays) == 1]
  last = {name: i for i, found in enumerate(values) for name in found.operands}
  alive: dict[str, int] = {}
  most = 0
  for i, found in enumerate(values):
    if not found.is_root and found.kind not in ("parameter", "constant"):
      alive[found.name] = found.size
    most = max(most, sum(alive.values()))
    alive = _kept(alive, last, i)
  return most


def _kept(
  alive: Mapping[str, int], last: Mapping[str, int], now: int
) -> dict[str, int]:
  return {name: n for name, n in alive.items() if last.get(name, now) > now}
