"""What is looked at while steps are taken: broken batches, figures, speed."""

from hyperjax.watching.progress import Costs, Progress
from hyperjax.watching.steps import (
  SKIP,
  STOP,
  OnNan,
  SaveClock,
  Unwritten,
  Watch,
  check_figures,
  figure_of,
  listed,
)

__all__ = [
  "SKIP",
  "STOP",
  "Costs",
  "OnNan",
  "Progress",
  "SaveClock",
  "Unwritten",
  "Watch",
  "check_figures",
  "figure_of",
  "listed",
]
