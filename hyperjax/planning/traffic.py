"""Bytes that a compiled program moves to and from a device's memory, from its text.

Every operation reads its operands and writes its result once; within a fusion nothing
is written; what runs in the background moves what the computation that it calls
does. A slice reads, and an update writes, only what it takes: layers that are
scanned lie stacked, and a turn of the loop moves one of them. What the compiler keeps
in a chip's own fast memory is left out.
"""

from collections.abc import Mapping

from hyperjax.memory import hlo

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
    written = max(0, written - _kept(inside, program))
  read = _read(operation, known, inside, program)
  if operation.kind in _WITH_OPERANDS:
    written -= read
  return written + read


def _read(
  operation: hlo.Operation,
  known: Mapping[str, hlo.Operation],
  inside: list[hlo.Operation],
  program: hlo.Program,
) -> int:
  """Bytes of its operands that it reads."""
  total = 0
  for i, name in enumerate(operation.operands):
    if name in known:
      whole = _in_memory(known[name])
      total += _read_inside(inside, i, whole, program) if inside else whole
  return total


def _read_inside(
  inside: list[hlo.Operation], number: int, whole: int, program: hlo.Program
) -> int:
  """Bytes of a fusion's operand, `whole` of them, that its operations read.

  A slice may stand in a fusion within it.
  """
  start = f" parameter({number})"
  name = next((x.name for x in inside if start in x.line), None)
  users = [x for x in inside if name in x.operands]
  if not users:
    return whole
  total = 0
  for user in users:
    if user.kind == "fusion" and user.called:
      nested = program.computations.get(user.called[0], [])
      for i, operand in enumerate(user.operands):
        if operand == name:
          total += _read_inside(nested, i, whole, program)
    elif user.operands[0] == name and user.kind in _SLICES:
      total += user.size
    elif user.operands[0] != name or user.kind != "dynamic-update-slice":
      total += whole  # what is updated is only written
  return min(whole, total)


def _kept(inside: list[hlo.Operation], program: hlo.Program) -> int:
  """Bytes of a fusion's result that stay as they were: of updates in place."""
  sizes = {each.name: each.size for each in inside}
  total = 0
  for each in inside:
    if each.kind == "dynamic-update-slice":
      total += each.size - sizes.get(each.operands[1], 0)
    elif each.kind == "fusion" and each.called:
      total += _kept(program.computations.get(each.called[0], []), program)
  return total


def _in_memory(operation: hlo.Operation) -> int:
  return sum(array.size for array in operation.arrays if array.is_in_memory)
