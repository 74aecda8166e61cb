"""Which setting makes a training step fit, and its value: tried, not guessed."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax

from hyperjax.memory import capacity
from hyperjax.memory.answer import OutOfMemory
from hyperjax.memory.program import refuse_held

_LEAST_LENGTH = 16  # tokens that a feature is shortened to at least
_LENGTHS = {
  "demonstrations": "demonstrations",
  "encoder_input_tokens": "inputs",
  "decoder_target_tokens": "targets",
}


class Step(Protocol):
  """A `Trainer`, as far as memory is concerned."""

  num_microbatches: int

  @property
  def abstract(self) -> Any: ...
  @property
  def layout(self) -> Any: ...
  @property
  def problem(self) -> Any: ...
  def check_memory(self, batch: Any) -> None: ...


def check_state(step: Step, held: int) -> None:
  """Refuses a model that does not fit with its optimizer, before any is read.

  Args:
    step: whose state it is.
    held: bytes of it on the fullest device.

  Raises:
    OutOfMemory: as it says.
  """
  devices = step.layout.mesh.local_devices
  parts = len(devices)
  total = held * parts if capacity.is_host(devices) else held
  axes = {name: n for name, n in step.layout.mesh.shape.items() if n > 1}
  available = capacity.available(devices) or total
  # Nearly all of it is split over the devices of "fsdp" and "tensor".
  axes["fsdp"] = axes.get("fsdp", 1) * -(-total // max(1, available))
  axes.pop("data", None)
  advice = f"take a smaller model, or MESH={axes} on as many devices"
  if capacity.is_host(devices):
    advice = "take a smaller model, or a machine with more memory"
    if parts > 1:
      advice += f" or fewer than its {parts} devices"
  refuse_held("a model with its optimizer's state", held, devices, advice)


def check_step(
  step: Step, divided: Callable[[int], Step], contexts: int, batch: Any
) -> None:
  """Refuses batches that do not fit in a training step, and says what would.

  Args:
    step: compiled here, and used later if it fits.
    divided: the same with another number of microbatches.
    contexts: in a batch.
    batch: shapes of a batch's arrays.

  Raises:
    OutOfMemory: says the first of these that is found to fit: more microbatches,
      shorter texts.
  """
  try:
    step.check_memory(batch)
  except OutOfMemory as error:
    rows = len(batch.encoder_input_tokens)
    parts = step.num_microbatches
    error.what = f"a training step of {rows} rows"
    if parts > 1:
      error.what += f" in {parts} microbatches"
    raise error.advised(
      _advice(error, step, divided, contexts, batch)
    ) from error


def _advice(
  error: OutOfMemory,
  step: Step,
  divided: Callable[[int], Step],
  contexts: int,
  batch: Any,
) -> str:
  found, most = "", contexts // step.layout.data_parallel
  if step.problem.num_tasks > 1:
    most = len(batch.encoder_input_tokens) // contexts
  for count in _more_parts(error, step.num_microbatches, most):
    step = divided(count)
    if _fits(step, batch):
      return f"set NUM_MICROBATCHES={count}"
  if step.num_microbatches > 1:
    found = f"NUM_MICROBATCHES={step.num_microbatches} and "
  for shorter, lengths in _shorter(batch):
    if _fits(step, shorter):
      return f"set {found}TASK_FEATURE_LENGTHS={lengths}"
  return (
    "not even one context of the shortest texts fits; take a smaller model, or "
    "a machine with more memory"
  )


def _fits(step: Step, batch: Any) -> bool:
  try:
    step.check_memory(batch)
  except OutOfMemory:
    return False
  return True


def _more_parts(error: OutOfMemory, now: int, most: int) -> Iterator[int]:
  """Numbers of microbatches that may be enough, the least first.

  With k times as many a step takes at least a k-th, so fewer are left out.
  """
  least = now + 1
  if error.asked and error.available:
    least = max(least, -(-now * error.asked // error.available))
  own = [n for n in range(least, most + 1) if most % n == 0]
  yield from own or ([most] if most > now else [])


def _shorter(batch: Any) -> Iterator[tuple[Any, dict[str, int]]]:
  """The batch with texts of half the tokens, a quarter, and so on."""

  def cut(x: Any) -> Any:
    length = max(min(_LEAST_LENGTH, x.shape[-1]), x.shape[-1] // 2)
    return jax.ShapeDtypeStruct((*x.shape[:-1], length), x.dtype)

  read = batch.demonstrations
  fields = {
    name: field
    for field, name in _LENGTHS.items()
    if getattr(batch, field) is not None
  }
  separate = {}
  if read is not None and len(read.shape) == 3:
    separate["num_demonstrations"] = read.shape[1]
  longest = max(x.shape[-1] for x in jax.tree.leaves(batch))
  while longest > _LEAST_LENGTH:
    batch = jax.tree.map(cut, batch)
    longest //= 2
    lengths = {
      name: getattr(batch, field).shape[-1] for name, field in fields.items()
    }
    yield batch, lengths | separate
