"""What a training step takes and returns."""

from typing import Any

from flax import struct


@struct.dataclass
class TrainState:
  """Trained and frozen parameters are two fields, not a mask.

  No gradient and no optimizer state exists for `frozen`. The key never
  changes: a step folds its own number into it.
  """

  step: Any  # [], int32: updates done
  params: Any
  frozen: Any
  opt_state: Any
  key: Any  # a typed PRNG key
