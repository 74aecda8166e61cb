"""A program compiled for its target: what it takes, or the compiler's refusal."""

import dataclasses
import pathlib
import re
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax

from hyperjax import sharding
from hyperjax.memory import answer, scratch
from hyperjax.models import flops
from hyperjax.planning import collectives, largest, traffic
from hyperjax.planning.jobs import Job
from hyperjax.planning.targets import Target

_AMOUNT = r"([\d.]+)\s*([KMGT]?)(?:i?B?|ytes)?"
# As the TPU compiler has said it in its versions.
_NEEDED = (
  re.compile(rf"total memory required for \w[\w ]* \({_AMOUNT}\)"),
  re.compile(rf"Used {_AMOUNT} of "),
)
_THERE = (
  re.compile(rf"exceeds available \w+ \({_AMOUNT}\)"),
  re.compile(rf"Used [\d.]+[KMGT]? of {_AMOUNT}"),
)
# Its list of what is largest: a size, then further on the array's type.
_LARGEST = re.compile(
  rf"^\s*\d+\.\s+Size:\s+{_AMOUNT}\s*$(?:.*?)^\s*Shape:\s+(\S+)",
  re.MULTILINE | re.DOTALL,
)
# The TPU compiler's versions write a program in forms of their own, which JAX's
# reader may not know; its own text it writes itself.
_DUMP = {"xla_dump_hlo_as_text": True}
_DUMPED = "*after_optimizations.txt"
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclasses.dataclass(frozen=True)
class Takes:
  """Bytes of each device that a compiled program takes."""

  arguments: int
  outputs: int  # beside the arguments that they take the place of
  temporaries: int
  program: int = 0

  @property
  def total(self) -> int:
    return self.arguments + self.outputs + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Refusal:
  """That a program does not fit, as its compiler says it.

  Attributes:
    needed: bytes, None where it does not say; of temporaries alone, if so.
    available: bytes that there are for them.
    largest: arrays with their bytes, the largest first.
    said: its words.
  """

  needed: int | None
  available: int | None
  largest: Sequence[tuple[str, int]]
  said: str


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What a compiler made of a program.

  Attributes:
    flops: of matrix products, over all devices, counted on the program itself.
    seconds: that tracing, lowering and compiling took.
    takes: None where it did not fit.
    refusal: None where it did.
    collectives: bytes that each device sends, by kind; None where the program
      did not fit, or its text is not to be had.
    moved: bytes that each device reads and writes; None likewise.
    largest: arrays with their bytes, the largest first, of what does not fit.
  """

  flops: int
  seconds: float
  takes: Takes | None = None
  refusal: Refusal | None = None
  collectives: dict[str, int] | None = None
  moved: int | None = None
  largest: Sequence[tuple[str, int]] = ()


def compiled(job: Job, target: Target) -> Compiled:
  """A program compiled for the target's devices."""
  begin = time.monotonic()
  traced = job.trace()
  count = flops.count(traced.jaxpr, job.turns)
  try:
    with job.layout.activate():
      made, text = _made(traced.lower(), target)
  except Exception as error:
    lacking = answer.found(error)
    if lacking is None:
      raise
    seconds = time.monotonic() - begin
    found = refusal(str(lacking))
    named = found.largest or largest.arrays(job, traced.jaxpr)
    return Compiled(count, seconds, refusal=found, largest=named)
  seconds = time.monotonic() - begin
  takes = _takes(made, text or "", target)
  sent = moved = None
  if text is not None:
    sent, moved = collectives.by_kind(text), traffic.moved(text)
  named = ()
  if not fits(job, takes, target):
    named = largest.arrays(job, traced.jaxpr)
  return Compiled(count, seconds, takes, None, sent, moved, named)


def fits(job: Job, takes: Takes, target: Target) -> bool:
  """Whether what a program takes, and what lies beside it, has room."""
  beside = sharding.device_bytes(job.beside)
  return target.memory is None or takes.total + beside <= target.memory


def refusal(said: str) -> Refusal:
  """A compiler's RESOURCE_EXHAUSTED, read."""
  named = [
    (shape, _bytes(number, unit))
    for number, unit, shape in _LARGEST.findall(said)
  ]
  return Refusal(_first(_NEEDED, said), _first(_THERE, said), named, said)


def _first(patterns: Sequence[re.Pattern[str]], said: str) -> int | None:
  for pattern in patterns:
    if found := pattern.search(said):
      return _bytes(*found.groups())
  return answer.asked_for(RuntimeError(said)) if patterns is _NEEDED else None


def _bytes(number: str, unit: str) -> int:
  return int(float(number) * 1024 ** _UNITS[unit])


def _made(
  lowered: jax.stages.Lowered, target: Target
) -> tuple[jax.stages.Compiled, str | None]:
  """A compiled program and its text, None where a TPU's is not to be had."""
  if target.topology is None:
    made = lowered.compile()
    return made, made.as_text() or ""
  with tempfile.TemporaryDirectory(prefix="hyperjax_plan_") as folder:
    made = lowered.compile({**_DUMP, "xla_dump_to": folder})
    texts = [path.read_text() for path in pathlib.Path(folder).glob(_DUMPED)]
  if not texts:
    try:
      texts = [made.as_text() or ""]
    except jax.errors.JaxRuntimeError:
      return made, None
  text = max(texts, key=len)
  return made, text if "\nENTRY " in text else None


def _takes(made: Any, text: str, target: Target) -> Takes:
  stats = made.memory_analysis()
  # What XLA on hosts leaves out of its own account.
  beside = scratch.largest(text) if target.sheet is None else 0
  return Takes(
    stats.argument_size_in_bytes,
    stats.output_size_in_bytes - stats.alias_size_in_bytes,
    stats.temp_size_in_bytes + beside,
    stats.generated_code_size_in_bytes if target.topology else 0,
  )
