"""How long a program takes at least, and what decides it: a roofline.

Arithmetic at the chip's peak, memory and network at their data sheets' bandwidths, all
three at once. Nothing overlaps so well: what runs takes longer, mostly by half to three
times, and by less the clearer one bound is above the others.
"""

import dataclasses

from hyperjax.memory.sheets import Sheet
from hyperjax.planning import needed
from hyperjax.planning.compiling import Compiled
from hyperjax.planning.jobs import Job

COMPUTE, MEMORY, NETWORK = "compute", "memory", "network"


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Seconds that one run of a program takes, by each bound."""

  seconds: dict[str, float]

  @property
  def bound(self) -> str:
    return max(self.seconds, key=lambda name: self.seconds[name])

  @property
  def step(self) -> float:
    return self.seconds[self.bound]


def of(job: Job, compiled: Compiled, sheet: Sheet | None) -> Estimate | None:
  """Of a compiled program; None where it does not fit, or nothing is known.

  Without its text its memory traffic is left out, and it sends what is needed.
  """
  if sheet is None or compiled.takes is None:
    return None
  sent = compiled.collectives
  if sent is None:
    sent = needed.collectives(job)
  return bounds(
    job,
    sheet,
    compiled.flops,
    compiled.moved,
    sum(sent.values()),
  )


def bounds(
  job: Job, sheet: Sheet, flops: int, moved: float | None, sent: float
) -> Estimate:
  """By flops over all devices, bytes moved (if known) and bytes sent of each."""
  peak = sheet.peak(job.problem.backbone.dtype)
  found = {COMPUTE: flops / job.layout.mesh.size / peak}
  if moved is not None:
    found[MEMORY] = moved / sheet.bandwidth
  return Estimate(found | {NETWORK: sent / sheet.network})
