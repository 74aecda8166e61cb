"""Checkpoints of what is trained: whole files, checked before they are read.

A checkpoint holds `params`, `opt_state` and a few numbers. What they are of, and
where the frozen weights are, is in the run's record. Restoring is strict.
"""

from hyperjax.checkpoints.facts import Facts, key_data
from hyperjax.checkpoints.failures import Refused, SaveFailed
from hyperjax.checkpoints.finite import check_finite
from hyperjax.checkpoints.folder import Checkpoints
from hyperjax.checkpoints.manifest import Damaged
from hyperjax.checkpoints.retention import Kept

__all__ = [
  "Checkpoints",
  "Damaged",
  "Facts",
  "Kept",
  "Refused",
  "SaveFailed",
  "check_finite",
  "key_data",
]
