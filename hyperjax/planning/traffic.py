"""Bytes that a compiled program moves to and from a device's memory, from its text.

Every operation reads its operands and writes its result once; within a fusion nothing
is written; what runs in the background moves what the computation that it calls
does. A slice reads, and an update writes, only what it takes: layers that are
scanned lie stacked, and a turn of the loop moves one of them. What the compiler keeps
in a chip's own fast memory is left out.
"""

from collections.abc import Mapping

from hyperjax.planning import hlo

# What moves nothing, or only names what is there.
_FREE = frozenset(
  {
    "add-dependency",
    "after-all",
    "async-done",
    "async-start",
    "async-update",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "domain",
    "get-tuple-element",
    "iota",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
  }
)
# Whose result names their operands again.
_WITH_OPERANDS = ("copy-start", "all-gather-start", "collective-permute-start")
_SLICES = ("dynamic-slice", "gather", "slice")


def moved(text: str) -> int:
  """Bytes of one run of a program on each device, loops unrolled."""
  program = hlo.read(text)
  insides = {
    called
    for operations in program.computations.values()
    for each in operations
    if _has_insides(each, program)
    for called in each.called
  }
  total = 0
  for name, often in program.times.items():
    if name not in insides:
      operations = program.computations.get(name, [])
      known = {each.name: each for each in operations}
      total += often * sum(_of(each, known, program) for each in operations)
  return total


def _has_insides(operation: hlo.Operation, program: hlo.Program) -> bool:
  """Whether what it calls is computed without going through memory."""
  is_plain = operation.kind in ("while", "conditional", "call", "async-start")
  return not (is_plain or _is_call(operation, program))


def _is_call(operation: hlo.Operation, program: hlo.Program) -> bool:
  """Whether it is a custom call of a computation that makes its very result."""
  if operation.kind != "custom-call" or len(operation.called) != 1:
    return False
  (called,) = operation.called
  roots = [x for x in program.computations.get(called, ()) if x.is_root]
  return [x.arrays for x in roots] == [operation.arrays]


def _of(
  operation: hlo.Operation,
  known: Mapping[str, hlo.Operation],
  program: hlo.Program,
) -> int:
  # What began in the background has been counted as it began.
  if operation.kind in _FREE or operation.kind.endswith("-done"):
    return 0
  if _is_call(operation, program):
    return 0
  written = _in_memory(operation)
  if operation.kind in _SLICES:
    return 2 * written
  if operation.kind == "dynamic-update-slice":
    update = known.get(operation.operands[1])
    return 2 * (_in_memory(update) if update else 0)
  inside: list[hlo.Operation] = []
  if operation.kind == "fusion" and operation.called:
    inside = program.computations.get(operation.called[0], [])
  if inside:
    written = _written(inside, written)
  read = _read(operation, known, inside)
  if operation.kind in _WITH_OPERANDS:
    written -= read
  return written + read


def _read(
  operation: hlo.Operation,
  known: Mapping[str, hlo.Operation],
  inside: list[hlo.Operation],
) -> int:
  """Bytes of its operands that it reads."""
  parameters = {}
  for each in inside:
    if each.kind == "parameter":
      number = each.line.partition(" parameter(")[2].partition(")")[0]
      parameters[int(number)] = each.name
  total = 0
  for i, name in enumerate(operation.operands):
    if name not in known:
      continue
    whole = _in_memory(known[name])
    users = [x for x in inside if parameters.get(i) in x.operands]
    if users and all(_takes_part(x, parameters.get(i)) for x in users):
      whole = min(whole, sum(_part(x, inside) for x in users))
    total += whole
  return total


def _takes_part(user: hlo.Operation, name: str | None) -> bool:
  """Whether an operation needs only a part of its first operand."""
  is_first = bool(user.operands) and user.operands[0] == name
  return is_first and user.kind in (*_SLICES, "dynamic-update-slice")


def _part(user: hlo.Operation, beside: list[hlo.Operation]) -> int:
  if user.kind == "dynamic-update-slice":
    return 0  # what it updates is only written
  return user.size


def _written(inside: list[hlo.Operation], whole: int) -> int:
  """Bytes of a fusion's result: of an update in place only that."""
  sizes = {each.name: each.size for each in inside}
  updates = [x for x in inside if x.kind == "dynamic-update-slice"]
  for update in updates:
    whole -= update.size - sizes.get(update.operands[1], 0)
  return max(0, whole)


def _in_memory(operation: hlo.Operation) -> int:
  return sum(array.size for array in operation.arrays if array.is_in_memory)
