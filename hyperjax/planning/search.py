"""Settings of a training run that fit a target, the fastest that are found.

All are estimated by arithmetic, which takes no time; the compiler judges the few that
promise most, and corrects the estimates of the rest by what it says.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from hyperjax import runs, sharding
from hyperjax.models import flops
from hyperjax.planning import account, estimate, jobs, needed, plan, settings
from hyperjax.planning.jobs import Job
from hyperjax.planning.plan import Plan
from hyperjax.planning.settings import Setting
from hyperjax.planning.targets import Target

_ENOUGH = 3  # that fit
_MOST_COMPILED = 8
_SHARE = 0.97  # of memory that an estimate may take
_OVERLAP = 0.25  # of the lesser bounds that shows beside the greatest
_DOUBLING = 0.02  # of a step that twice as many microbatches add
# Values are written and read, and so are their gradients.
_PASSES = 6


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A setting and what arithmetic says of it.

  Attributes:
    seconds: of a step, for comparison with others alone.
    held: bytes of each device that are certain.
    values: bytes of each device that are estimated.
  """

  setting: Setting
  seconds: float
  held: int
  values: int

  @property
  def way(self) -> tuple[str, int]:
    """What of it changes the program most: the rest changes sizes."""
    tensor = self.setting.axes.get(sharding.TENSOR_AXIS, 1)
    return self.setting.remat, tensor


@dataclasses.dataclass(frozen=True)
class Found:
  """A setting that was compiled, and fits."""

  setting: Setting
  plan: Plan

  @property
  def gin(self) -> str:
    """Lines to put after the run's file."""
    return self.setting.gin


def best(
  run: Any,
  target: Target,
  seconds: float,
  say: Callable[[str], None] = lambda line: None,
) -> list[Found]:
  """The settings that fit, the fastest first; none where none is found.

  Args:
    run: a `runs.Train`.
    target: what it is planned for.
    seconds: after which nothing more is compiled.
    say: is told what is done.

  Raises:
    ValueError: the run is no training run.
  """
  if not isinstance(run, runs.Train):
    raise ValueError(
      "--search is of training runs; an evaluation's rows are bounded by "
      "EVAL_TOKENS_PER_BATCH"
    )
  end = time.monotonic() + seconds
  say(f"estimating settings for {target.name}")
  waiting = candidates(run, target)
  say(f"{len(waiting)} settings estimated; the compiler tries the best")
  return chosen(run, target, waiting, end - time.monotonic(), say)


def chosen(
  run: runs.Train,
  target: Target,
  waiting: Sequence[Candidate],
  seconds: float,
  say: Callable[[str], None] = lambda line: None,
) -> list[Found]:
  """Those of some candidates that fit, as the compiler says; as `best`."""
  end = time.monotonic() + seconds
  found: list[Found] = []
  # How much more values take than arithmetic says, by rematerialisation.
  factors: dict[str, float] = dict.fromkeys(settings.REMAT, 1.0)
  for number in range(1, _MOST_COMPILED + 1):
    next_one = _next(waiting, factors, target.memory)
    is_late = number > 1 and time.monotonic() > end
    if next_one is None or len(found) == _ENOUGH or is_late:
      break
    waiting = [x for x in waiting if x is not next_one]
    say(f"compiling {number}: {_shown(next_one.setting)}")
    job = jobs.of_training(next_one.setting.of(run), target.devices)
    made = plan.made(target, [job])
    learn(factors, next_one, made.programs[0].takes)
    say(f"  {_outcome(made)}")
    if made.fits:
      found.append(Found(next_one.setting, made))
      waiting = [x for x in waiting if not _is_worse(x, next_one)]
    else:
      waiting = [x for x in waiting if not _takes_more(x, next_one)]
  return sorted(found, key=lambda each: _seconds(each.plan))


def candidates(run: runs.Train, target: Target) -> list[Candidate]:
  """All settings that the batch and the devices allow, the fastest first."""
  found, counts = [], _flops(run, target)
  for axes in settings.meshes(len(target.devices)):
    try:
      whole = jobs.of_training(Setting(axes, 1, "none").of(run), target.devices)
    except ValueError:
      continue  # the batch or a weight does not divide
    for remat in settings.REMAT:
      for count in settings.parts(run, whole.layout.data_parallel):
        job = dataclasses.replace(
          whole,
          num_microbatches=count,
          problem=settings.with_remat(whole.problem, remat),
        )
        found.append(
          _candidate(job, Setting(axes, count, remat), counts, target)
        )
  return sorted(found, key=lambda each: each.seconds)


def text(found: Sequence[Found]) -> str:
  """What was found, as lines of gin to paste."""
  if not found:
    return (
      "Nothing was found that fits: take more devices or larger ones, fewer "
      "rows (BATCH_SIZE) or shorter ones (TASK_FEATURE_LENGTHS)."
    )
  lines = [
    "These fit, by estimate the fastest first. Put one after the run's file."
  ]
  for number, each in enumerate(found, 1):
    lines += ["", f"# {number}: {_outcome(each.plan)}", each.gin.rstrip()]
  return "\n".join(lines)


def content(found: Sequence[Found]) -> dict[str, Any]:
  """As JSON values: the plan of the best, and all that fit."""
  each = [
    {"gin": one.gin} | dataclasses.asdict(one.setting) | one.plan.content()
    for one in found
  ]
  return {"fits": bool(found)} | (each[0] if each else {}) | {"found": each}


def _flops(run: runs.Train, target: Target) -> dict[str, int]:
  """Operations of a step over all devices, by rematerialisation."""
  found = {}
  for remat in settings.REMAT:
    one = dataclasses.replace(
      run, problem=settings.with_remat(run.problem, remat), num_microbatches=1
    )
    job = jobs.of_training(one, target.devices)
    found[remat] = flops.count(job.trace().jaxpr, job.turns)
  return found


def _candidate(
  job: Job, setting: Setting, counts: dict[str, int], target: Target
) -> Candidate:
  again = counts[setting.remat] / counts["none"]
  values = account.activations(job)
  held = sum(account.held(job).values()) + account.gradients(job)
  seconds = float(setting.num_microbatches)
  if target.sheet is not None:
    # Everything that is computed goes through memory, whatever is kept.
    plain = dataclasses.replace(
      job, problem=settings.with_remat(job.problem, "none")
    )
    moved = _PASSES * setting.num_microbatches * account.activations(plain)
    bounds = estimate.bounds(
      job,
      target.sheet,
      counts[setting.remat],
      again * moved + held,
      sum(needed.collectives(job).values()),
    )
    lesser = sum(bounds.seconds.values()) - bounds.step
    seconds = bounds.step + _OVERLAP * lesser
    seconds *= 1 + _DOUBLING * (setting.num_microbatches.bit_length() - 1)
  else:
    seconds = again * (1 + _DOUBLING * setting.num_microbatches)
  return Candidate(setting, seconds, held, values)


def _next(
  waiting: Sequence[Candidate], factors: dict[str, float], memory: int | None
) -> Candidate | None:
  """The fastest that may fit."""
  for each in waiting:
    takes = each.held + factors[each.setting.remat] * each.values
    if memory is None or takes < _SHARE * memory:
      return each
  return None


def learn(
  factors: dict[str, float], chosen: Candidate, takes: int | None
) -> None:
  """Corrects estimates by what the compiler has said of one: bytes of a device."""
  if takes is not None:
    rest = max(0, takes - chosen.held)
    factors[chosen.setting.remat] = rest / max(1, chosen.values)


def _is_worse(other: Candidate, than: Candidate) -> bool:
  """Whether it is much the same as one that fits, and no faster."""
  return other.way == than.way and other.seconds >= than.seconds


def _takes_more(other: Candidate, than: Candidate) -> bool:
  """Whether it is much the same as one that does not fit, and no smaller."""
  is_smaller = other.held < than.held or other.values < than.values
  return other.way == than.way and not is_smaller


def _seconds(made: Plan) -> float:
  found = made.programs[0].estimate
  return 0.0 if found is None else found.step


def _shown(setting: Setting) -> str:
  return (
    f"MESH = {dict(setting.axes)}, NUM_MICROBATCHES = "
    f"{setting.num_microbatches}, remat {setting.remat}"
  )


def _outcome(made: Plan) -> str:
  one = made.programs[0]
  takes = "?" if one.takes is None else f"{one.takes / 2**30:.2f} GiB a device"
  if not made.fits:
    return f"does not fit: {takes}"
  found = one.estimate
  if found is None:
    return takes
  return f"{takes}, at least {found.step:.3g} s a step, by {found.bound}"
