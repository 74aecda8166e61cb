"""Bytes that devices send each other in a compiled program, from its text."""

import math
import re

from hyperjax.memory import hlo

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
  "collective-broadcast",
)
_GROUPS = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_CHAIN = re.compile(r'chain_id="?\d+')
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
# The TPU compiler's: a mesh, then those of its axes that take part.
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_MESH_AXIS = re.compile(r"'([^']+)'=(\d+)")


def by_kind(text: str) -> dict[str, int]:
  """Bytes that each device sends, by kind of collective, loops unrolled."""
  program = hlo.read(text)
  found: dict[str, int] = {}
  chains: set[str] = set()
  for name, often in program.times.items():
    for operation in program.computations.get(name, ()):
      kind = operation.kind.removesuffix("-start")
      if kind in KINDS and _is_new(operation.line, chains):
        sent = _sent(kind, operation, program.computations[name])
        found[kind] = found.get(kind, 0) + often * sent
  return found


def _is_new(line: str, chains: set[str]) -> bool:
  """Whether a collective is met for the first time.

  One that goes on behind other operations stands in each of these, with the same
  number of its chain.
  """
  found = _CHAIN.search(line)
  if found is None:
    return True
  is_new = found[0] not in chains
  chains.add(found[0])
  return is_new


def _sent(
  kind: str, operation: hlo.Operation, beside: list[hlo.Operation]
) -> int:
  sizes = {each.name: each.size for each in beside}
  taken = sum(sizes.get(name, 0) for name in operation.operands)
  group = _group(operation.line)
  share = (group - 1) / group
  if kind == "all-gather":
    return int(taken * (group - 1))
  if kind == "all-reduce":
    return int(2 * taken * share)
  if kind in ("reduce-scatter", "all-to-all"):
    return int(taken * share)
  return taken


def _group(line: str) -> int:
  if found := _IOTA_GROUPS.search(line):
    return int(found[2])
  if found := _GROUPS.search(line):
    return len(found[1].split(","))
  if found := _MESH_GROUPS.search(line):
    extents = {name: int(n) for name, n in _MESH_AXIS.findall(found[1])}
    used = re.findall(r"'([^']+)'", found[2])
    return math.prod(extents[name] for name in used)
  return 1
