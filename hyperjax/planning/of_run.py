"""Which programs of a run are planned: a training step, or those that answer."""

from collections.abc import Sequence
from typing import Any

from hyperjax import runs
from hyperjax.planning import answering, jobs
from hyperjax.planning.jobs import Job


def programs(run: Any, devices: Sequence[Any]) -> list[Job]:
  """Of a `runs.Train` or a `runs.Evaluate`, on `devices`.

  Raises:
    ValueError: the mesh or the batch do not suit each other.
  """
  if isinstance(run, runs.Train):
    return [jobs.of_training(run, devices)]
  return answering.of_evaluation(run, devices)
