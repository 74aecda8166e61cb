"""How long answers take, the compilation of programs left out."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax

_COMPILATION = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class _Lap:
  seconds: float = 0.0
  targets: int = 0


class Stopwatch:
  """Seconds that batches of targets took, by control.

  A batch for which something had to be compiled is left out whole: what it would
  have taken without is not known.
  """

  def __init__(self):
    self._laps: dict[str, _Lap] = {}

  @contextlib.contextmanager
  def lap(self, control: str, num_targets: int) -> Iterator[None]:
    """Within it, `num_targets` are answered under a control.

    Of none, their adapters are written.
    """
    has_compiled = []

    def note(event: str, duration_secs: float, **_: Any) -> None:
      if event == _COMPILATION:
        has_compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    start = time.perf_counter()
    try:
      yield
    finally:
      seconds = time.perf_counter() - start
      jax.monitoring.unregister_event_duration_listener(note)
    if not has_compiled:
      lap = self._laps.setdefault(control, _Lap())
      lap.seconds += seconds
      lap.targets += num_targets

  def content(self) -> dict[str, Any]:
    """JSON values: seconds per target and targets timed, by control; the machine."""
    device = jax.devices()[0]
    return {
      "device_kind": device.device_kind,
      "platform": device.platform,
      "devices": jax.device_count(),
      "controls": {
        control: {
          "seconds_per_target": lap.seconds / lap.targets,
          "targets": lap.targets,
        }
        for control, lap in self._laps.items()
        if lap.targets
      },
    }
