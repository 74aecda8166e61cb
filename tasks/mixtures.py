"""Mixtures of tasks that data sets register, named in gin."""

import dataclasses
from collections.abc import Sequence

from hyperjax import checks


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Registers a mixture; it stands after the providers of its tasks.

  Attributes:
    name: of the seqio mixture.
    tasks: names of tasks or mixtures, each with its rate.
  """

  name: str
  tasks: Sequence[tuple[str, checks.Weight]]

  def __post_init__(self):
    checks.fields(self)

  def register(self) -> None:
    """Registers the mixture, unless its name is registered.

    Raises:
      ValueError: one of its tasks is not registered.
    """
    import seqio

    from hyperjax.data.store import seqio_tasks

    known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    for name, _ in self.tasks:
      if name not in known:
        raise ValueError(
          f"mixture {self.name!r}: no task {name!r} is registered; its data "
          "set must stand before the mixture in SeqioTasks.providers"
        )
    tasks = [(name, float(rate)) for name, rate in self.tasks]
    seqio_tasks.add_mixture(self.name, tasks, self)
