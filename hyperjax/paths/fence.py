"""Whether a folder may still be written to by who once had it."""

from typing import Protocol


class Fence(Protocol):
  """What stands between a process and a folder that another may have by now."""

  def check(self) -> None:
    """Asks where the folder is; raises where it is another's."""
    ...

  def check_lapsed(self) -> None:
    """As `check`, but costs nothing while it cannot have become another's."""
    ...


class NoFence:
  """Of a folder that nobody else can have."""

  def check(self) -> None:
    pass

  def check_lapsed(self) -> None:
    pass


NO_FENCE = NoFence()
