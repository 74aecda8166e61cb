"""What a server allows; without jax, so that the command line can say it, too."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from hyperjax import checks

KIB = 1024
LONGEST_WAIT = 10  # seconds
LARGEST_BODY = 2**20  # KiB
Rows = Annotated[int, checks.Whole(1, 1024)]
Held = Annotated[int, checks.Whole(1, 2**20)]
Bytes = Annotated[int, checks.Whole(KIB, LARGEST_BODY * KIB)]
Seconds = Annotated[float, checks.Number(above=0, most=86400)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """How much may wait, and for how long."""

  queue: checks.Count = 1024  # rows
  writes: checks.Count = 64  # adapters to be written
  # Seconds that a row waits for others at most, and until it has begun.
  wait: Annotated[float, checks.Number(least=0, most=LONGEST_WAIT)] = 0.002
  timeout: Seconds = 30.0

  def __post_init__(self):
    checks.fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What a server allows."""

  batch_size: Rows = 64
  in_memory: Held = 256  # adapters
  on_disk: checks.Count = 10_000
  limits: Limits = dataclasses.field(default_factory=Limits)
  tokens: Sequence[
    str
  ] = ()  # of which a request must bring one, if there are any
  is_local: bool = True  # whether it answers as localhost alone
  most_at_once: checks.Count = 1024  # requests
  most_bytes: Bytes = 2**20  # of a body
  body_seconds: Seconds = 10.0
  t5_name: str = "t5"

  def __post_init__(self):
    checks.fields(self)
