"""Tasks of one's own: modules that register them with seqio as they are imported."""

import dataclasses
import importlib
from collections.abc import Sequence

from hyperjax import checks


@dataclasses.dataclass(frozen=True)
class ImportedModules:
  """Modules whose import registers tasks.

  Attributes:
    names: of modules that Python finds, such as "my_tasks"; or of one.
  """

  names: str | Sequence[str]

  def __post_init__(self):
    checks.fields(self)

  def register(self) -> None:
    """Imports them, in their order.

    Raises:
      ValueError: one cannot be imported.
    """
    names = [self.names] if isinstance(self.names, str) else self.names
    for name in names:
      try:
        importlib.import_module(name)
      except ImportError as error:
        raise ValueError(
          f"TASK_MODULES: {name} cannot be imported ({error}); its folder must "
          "be in PYTHONPATH"
        ) from error
