"""Adapters from a few examples, and predictions with them, from Python.

```python
from hyperjax import serving

model = serving.load("runs/demo_lora/multitask")
adapter = model.adapt([("alice paris red seven", "red ; paris"), ...])
model.predict(["oscar rome blue ten"], adapter)
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from hyperjax.serving.model import Model, load
  from hyperjax.serving.tuner import tune
  from hyperjax.serving.tuning import Tuning
  from hyperjax.serving.verdict import Verdict, check, check_all

__all__ = [
  "Model",
  "Tuning",
  "Verdict",
  "check",
  "check_all",
  "load",
  "tune",
]


def __getattr__(name: str) -> Any:
  """Imports jax with the first use, not with the package."""
  if name in ("Model", "load"):
    from hyperjax.serving import model

    return getattr(model, name)
  if name == "tune":
    from hyperjax.serving import tuner

    return tuner.tune
  if name == "Tuning":
    from hyperjax.serving import tuning

    return tuning.Tuning
  if name in __all__:
    from hyperjax.serving import verdict

    return getattr(verdict, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
