"""Why a save failed, in one sentence, and what to do."""

import logging

from hyperjax.checks import disk


class SaveFailed(OSError):  # noqa: N818 - an outcome
  """A checkpoint could not be written; those before it are as they were."""


def sentence(what: str, number: int, last: int | None) -> str:
  """What failed and why, what is safe, and what to do.

  Args:
    what: was to be written.
    number: of `disk.reason`.
    last: the last step that has a checkpoint.
  """
  kept, goes_on = "There is no checkpoint before it", "begins anew"
  if last is not None:
    kept = f"Nothing is lost: the last good checkpoint is of step {last}"
    goes_on = "goes on from there"
  why, advice = disk.words(number)
  return (
    f"{what} cannot be written: {why}. {kept}; {advice} and start the run again, "
    f"it {goes_on}"
  )


def quiet() -> None:
  """Keeps orbax from logging tracebacks of what is raised anyway."""
  logging.getLogger("absl").addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
  return record.exc_info is None or "orbax" not in record.pathname
