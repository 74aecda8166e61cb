"""A plan: what each program of a run takes on a target, and whether it fits."""

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import hyperjax
from hyperjax import sharding, trees
from hyperjax.planning import account, compiling, estimate, needed
from hyperjax.planning.compiling import Compiled
from hyperjax.planning.jobs import Job
from hyperjax.planning.targets import Target

_LIBRARIES = ("jax", "jaxlib", "libtpu")
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Planned:
  """One program of a plan."""

  job: Job
  target: Target
  compiled: Compiled
  held: Mapping[str, int]  # bytes of each device, by kind
  gradients: int
  needed: Mapping[str, int]  # bytes that each device sends, by kind

  @property
  def fits(self) -> bool:
    takes = self.compiled.takes
    return takes is not None and compiling.fits(self.job, takes, self.target)

  @property
  def estimate(self) -> estimate.Estimate | None:
    return estimate.of(self.job, self.compiled, self.target.sheet)

  @property
  def available(self) -> int | None:
    """Bytes of each device, as the compiler says it, or else its data sheet."""
    refusal = self.compiled.refusal
    said = None if refusal is None else refusal.available
    return self.target.memory if said is None else said

  @property
  def takes(self) -> int | None:
    """Bytes of each device; None where the compiler does not say."""
    if self.compiled.takes is not None:
      beside = sharding.device_bytes(self.job.beside)
      return self.compiled.takes.total + beside
    return self.compiled.refusal and self.compiled.refusal.needed

  @property
  def hours(self) -> float | None:
    """Of all steps; None where nothing says how many, or how long one takes."""
    found = self.estimate
    if found is None or self.job.steps is None:
      return None
    return found.step * self.job.steps / _HOUR

  def bytes_per_device(self) -> dict[str, int | None]:
    """By kind: what lies there, by arithmetic, then what the compiler says."""
    found: dict[str, int | None] = dict(self.held)
    found["gradients"] = self.gradients
    takes = self.compiled.takes
    if takes is not None:
      # Gradients are among the temporaries, but not all of them at once.
      rest = max(0, takes.temporaries - self.gradients)
      found |= {
        "activations": rest,
        "temporaries": takes.temporaries,
        "arguments": takes.arguments,
        "outputs": takes.outputs,
        "program": takes.program,
      }
    return found | {"total": self.takes, "available": self.available}

  def content(self) -> dict[str, Any]:
    """As JSON values."""
    job, compiled, found = self.job, self.compiled, self.estimate
    step = None if found is None else found.step
    hours = self.hours
    devices = job.layout.mesh.size
    refusal = compiled.refusal
    return {
      "program": job.what,
      "note": job.note,
      "bytes_per_device": self.bytes_per_device(),
      "flops_per_device": compiled.flops / devices,
      "bytes_moved_per_device": compiled.moved,
      "collective_bytes": {
        "compiled": compiled.collectives,
        "needed": dict(self.needed),
      },
      "seconds_by_bound": None if found is None else found.seconds,
      "estimated_step_s": step,
      "bound": None if found is None else found.bound,
      "tokens_per_second": step and job.tokens / step,
      "targets_per_second": step and job.targets / step,
      "steps": job.steps,
      "hours": hours,
      "device_hours": hours and hours * devices,
      "fits": self.fits,
      "refusal": None if refusal is None else dataclasses.asdict(refusal),
      "largest": [list(each) for each in compiled.largest],
      "compile_s": compiled.seconds,
    }


@dataclasses.dataclass(frozen=True)
class Plan:
  """All programs of a run, the one that takes longest first."""

  target: Target
  programs: Sequence[Planned]

  @property
  def fits(self) -> bool:
    return all(each.fits for each in self.programs)

  @property
  def trained(self) -> int:
    """Parameters."""
    return trees.count(self.programs[0].job.held.get("weights_trained", {}))

  @property
  def frozen(self) -> int:
    """Parameters."""
    return trees.count(self.programs[0].job.held.get("weights_frozen", {}))

  @property
  def mesh(self) -> dict[str, int]:
    """Sizes of its axes."""
    return dict(self.programs[0].job.layout.mesh.shape)

  def content(self) -> dict[str, Any]:
    """As JSON values: those of the first program, and all programs."""
    programs = [each.content() for each in self.programs]
    target, sheet = self.target, self.target.sheet
    return {
      "is_estimate": True,
      "target": target.name,
      "topology": target.topology,
      "chip": None if sheet is None else dataclasses.asdict(sheet),
      "devices": len(target.devices),
      "mesh": self.mesh,
      "compiled_for_target": target.is_own_compiler,
      "trained": self.trained,
      "frozen": self.frozen,
      **programs[0],
      "fits": self.fits,
      "programs": programs,
      "versions": versions(),
    }


def made(target: Target, found: Sequence[Job]) -> Plan:
  """Compiles each program for the target."""
  return Plan(target, [planned(job, target) for job in found])


def planned(job: Job, target: Target) -> Planned:
  """One program, compiled for the target."""
  return Planned(
    job,
    target,
    compiling.compiled(job, target),
    account.held(job),
    account.gradients(job),
    needed.collectives(job),
  )


def versions() -> dict[str, str]:
  """Of this program and of the compilers; those that are not installed are left out."""
  found = {"hyperjax": hyperjax.__version__}
  for name in _LIBRARIES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
