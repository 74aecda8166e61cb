"""HyperJAX: hypermodels that write adapters for a frozen T5.

```python
import hyperjax

model = hyperjax.load("runs/demo_lora/multitask")
adapter = model.adapt([("alice paris red seven", "red ; paris"), ...])
model.predict(["oscar rome blue ten"], adapter)
adapter.save("adapters/mine")
model.predict(["oscar rome blue ten"], "adapters/mine")
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.artifacts.adapter_folder import read as read_adapter
  from hyperjax.serving.model import Model, load

__version__ = "0.1.0"

__all__ = ["Adapter", "Model", "__version__", "load", "read_adapter"]


def __getattr__(name: str) -> Any:
  """Imports jax with the first use, not with the package."""
  if name in ("Model", "load"):
    from hyperjax.serving import model

    return getattr(model, name)
  if name in ("Adapter", "read_adapter"):
    from hyperjax.artifacts import adapter_folder

    return adapter_folder.Adapter if name == "Adapter" else adapter_folder.read
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
