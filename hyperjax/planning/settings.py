"""What can be set of a training run for the same losses: how it is computed."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from hyperjax import runs, sharding
from hyperjax.models.problems import HyperTuning, Problem

REMAT = ("none", "minimal", "full")
_MOST_TENSOR = 8
_IMPORTS = """from __gin__ import dynamic_registration
from hyperjax.models import t5_layers
"""


@dataclasses.dataclass(frozen=True)
class Setting:
  """How a step is shared out.

  Attributes:
    axes: sizes of mesh axes, as of `MESH`.
    num_microbatches: parts that a batch is taken in.
    remat: as of `T5Config`.
  """

  axes: Mapping[str, int]
  num_microbatches: int
  remat: str

  def of(self, run: runs.Train) -> runs.Train:
    """The run with this setting."""
    return dataclasses.replace(
      run,
      num_microbatches=self.num_microbatches,
      mesh=dataclasses.replace(run.mesh, axes=dict(self.axes)),
      problem=with_remat(run.problem, self.remat),
    )

  @property
  def gin(self) -> str:
    """Lines to put after a run's file."""
    axes = f"MESH = {dict(self.axes)!r}\n".replace("'", '"')
    return (
      f"{_IMPORTS}{axes}NUM_MICROBATCHES = {self.num_microbatches}\n"
      f't5_layers.T5Config.remat = "{self.remat}"\n'
    )


def with_remat(problem: Problem, remat: str) -> Problem:
  """The same problem, with another rematerialisation of all its T5s."""
  assert dataclasses.is_dataclass(problem)  # as every problem is
  backbone = dataclasses.replace(problem.backbone, remat=remat)
  changed: dict[str, Any] = {"backbone": backbone}
  if isinstance(problem, HyperTuning):
    own = dataclasses.replace(problem.hypermodel.t5, remat=remat)
    changed["hypermodel"] = dataclasses.replace(problem.hypermodel, t5=own)
  return dataclasses.replace(problem, **changed)


def meshes(count: int) -> Iterator[dict[str, int]]:
  """Sizes of axes over `count` devices: weights split in powers of two."""
  for tensor in _powers(min(count, _MOST_TENSOR)):
    for fsdp in _powers(count // tensor):
      if count % (tensor * fsdp) == 0:
        axes = {sharding.FSDP_AXIS: fsdp, sharding.TENSOR_AXIS: tensor}
        yield {name: size for name, size in axes.items() if size > 1}


def parts(run: runs.Train, data_parallel: int) -> Iterator[int]:
  """Numbers of microbatches that divide a run's batch, the least first."""
  own, left = divmod(run.num_contexts, data_parallel)
  if left:
    return
  if run.problem.num_tasks > 1:
    own = run.data.rows_per_context  # no part may lack a task
  yield from (count for count in _powers(own) if own % count == 0)


def _powers(most: int) -> list[int]:
  return [1 << i for i in range(most.bit_length())]
