"""A plan for people."""

from collections.abc import Iterable, Iterator, Mapping

from hyperjax.planning.plan import Plan, Planned

_GIB = 2**30
_WIDTH = 24
_MOST_ARRAYS = 6
_ABOVE = 1.15  # times what is needed, from which on it is said
_ONE_MACHINE = 8  # GPUs
_NOTHING = 10**6  # bytes that are not worth a word
_UNREAD = "not known: the compiled program's text is not to be had"
_SEARCH = "--search tries settings that may."
_FEWER = (
  "Fewer EVAL_TOKENS_PER_BATCH, contexts (FewShotEvaluation.contexts_per_batch) or "
  "weights split over devices (MESH) may."
)
_WORDS = {
  "weights_trained": "weights, trained",
  "weights_frozen": "weights, frozen",
  "moments": "optimizer's moments",
  "adapters": "adapters",
  "cache": "keys and values",
  "batch": "batch",
  "gradients": "gradients",
  "activations": "activations and the rest",
  "outputs": "results",
  "program": "program",
}


def of_plan(plan: Plan) -> str:
  """All of it, some lines for each program, the verdict last."""
  target = plan.target
  lines = [
    f"Plan for {target.name}. All of it is an estimate: nothing has run.",
    _line("mesh", ", ".join(f"{k} {n}" for k, n in plan.mesh.items())),
    _line("parameters", f"{plan.trained:,} trained, {plan.frozen:,} frozen"),
  ]
  if not target.is_own_compiler:
    lines.append(
      _line(
        "compiler",
        "the host's, held against the card's memory and data sheet: the GPU's "
        "own may need more or less",
      )
    )
  sheet = target.sheet
  if sheet and not sheet.is_tpu and len(target.devices) > _ONE_MACHINE:
    lines.append(
      _line("network", "as within a machine: between machines it is far slower")
    )
  for each in plan.programs:
    lines += ["", f"{each.job.what.capitalize()}"]
    lines += [_line("rows", each.job.note)] if each.job.note else []
    lines += _of_program(each)
  return "\n".join([*lines, "", verdict(plan)])


def verdict(plan: Plan) -> str:
  """Whether it fits, in a sentence; what takes most where it does not."""
  if plan.fits:
    largest = max(each.takes or 0 for each in plan.programs)
    available = plan.programs[0].available
    room = "" if available is None else f" of {_gib(available)} GiB"
    return f"It fits: {_gib(largest)}{room} a device."
  each = next(each for each in plan.programs if not each.fits)
  takes = "more" if each.takes is None else f"{_gib(each.takes)} GiB"
  there = "there is"
  if each.available is not None:
    there = f"the {_gib(each.available)} GiB of a device"
  lines = [
    f"It does not fit: {each.job.what} takes {takes}, more than {there}."
    if each.takes is not None
    else f"It does not fit: {each.job.what} takes more than {there}."
  ]
  for shape, size in each.compiled.largest[:_MOST_ARRAYS]:
    lines.append(f"  {_gib(size):>8} GiB  {shape}")
  lines.append(_SEARCH if each.job.trains else _FEWER)
  return "\n".join(lines)


def _of_program(planned: Planned) -> Iterator[str]:
  job, compiled = planned.job, planned.compiled
  devices = job.layout.mesh.size
  parts = planned.bytes_per_device()
  shown = [name for name in _WORDS if parts.get(name)]
  yield _line("GiB a device", _row(shown, parts))
  yield _line(
    "matrix products", f"{compiled.flops / devices / 1e12:,.3g} TFLOP a device"
  )
  if compiled.takes is not None:
    moved = compiled.moved
    known = _UNREAD if moved is None else f"{moved / 1e9:,.1f} GB a device"
    yield _line("memory traffic", known)
  yield from _collectives(planned)
  yield from _times(planned)
  yield _line("compiled in", f"{compiled.seconds:,.0f} s")


def _row(names: Iterable[str], parts: Mapping[str, int | None]) -> str:
  return "; ".join(f"{_WORDS[name]} {_gib(parts[name] or 0)}" for name in names)


def _collectives(planned: Planned) -> Iterator[str]:
  if planned.job.layout.mesh.size == 1:
    return
  needed = planned.needed
  yield _line("GB sent, needed", _by_kind(needed))
  compiled = planned.compiled.collectives
  if planned.compiled.takes is None:
    return
  if compiled is None:
    yield _line("GB sent, compiled", _UNREAD)
    return
  yield _line("GB sent, compiled", _by_kind(compiled))
  sent, least = sum(compiled.values()), sum(needed.values())
  if sent - least > _NOTHING and sent > _ABOVE * least:
    above = [
      kind
      for kind, count in compiled.items()
      if count > _ABOVE * needed.get(kind, 0)
    ]
    times = f"{sent / least:.2f} times" if least else "more than"
    yield _line("", f"{times} what is needed; above it: {', '.join(above)}")


def _by_kind(found: Mapping[str, int]) -> str:
  parts = [
    f"{kind} {count / 1e9:,.3g}" for kind, count in found.items() if count
  ]
  return ", ".join(parts) or "nothing"


def _times(planned: Planned) -> Iterator[str]:
  found, job = planned.estimate, planned.job
  if found is None:
    return
  bounds = ", ".join(f"{k} {s:.3g}" for k, s in found.seconds.items())
  yield _line(
    "seconds at least", f"{found.step:.3g}, by {found.bound} ({bounds})"
  )
  yield _line(
    "a second",
    f"{job.tokens / found.step:,.0f} tokens, "
    f"{job.targets / found.step:,.1f} {job.rows_are}",
  )
  hours = planned.hours
  if hours is not None:
    yield _line(
      f"{job.steps:,} steps",
      f"at least {_hours(hours)} hours, "
      f"{_hours(hours * job.layout.mesh.size)} device-hours",
    )


def _line(name: str, text: str) -> str:
  return f"  {name:{_WIDTH - 4}}{text}"


def _hours(count: float) -> str:
  return f"{count:,.1f}" if count >= 10 else f"{count:.2g}"


def _gib(count: int) -> str:
  size = count / _GIB
  return f"{size:,.2f}" if size >= 0.005 else f"{size:.2g}"
