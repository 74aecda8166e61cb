"""Why a save failed, in one sentence, and what to do."""

import contextlib
import errno
import logging
import pathlib

from hyperjax import paths
from hyperjax.checks import disk


class SaveFailed(OSError):  # noqa: N818 - an outcome
  """A checkpoint could not be written; those before it are as they were."""


class Refused(ValueError):  # noqa: N818 - a state of the folder
  """Nothing may be written to the folder any more: it is another run's."""


def sentence(what: str, number: int, last: int | None) -> str:
  """What failed and why, what is safe, and what to do.

  Args:
    what: was to be written.
    number: of `disk.reason`.
    last: the last step that has a checkpoint.
  """
  return _sentence(what, *disk.words(number), last)


def of_bucket(
  what: str, folder: pathlib.Path, error: BaseException, last: int | None
) -> SaveFailed:
  """What to raise where a save into a bucket has failed; as `sentence`."""
  why = paths.sentence(error) or paths.reason(str(folder), error)
  return SaveFailed(errno.EIO, _sentence(what, why, "see to the store", last))


def _sentence(what: str, why: str, advice: str, last: int | None) -> str:
  kept, goes_on = "There is no checkpoint before it", "begins anew"
  if last is not None:
    kept = f"Nothing is lost: the last good checkpoint is of step {last}"
    goes_on = "goes on from there"
  return (
    f"{what} cannot be written: {why}. {kept}; {advice} and start the run again, "
    f"it {goes_on}"
  )


def check(error: Exception, fence: paths.Fence) -> None:
  """Raises what an error comes of where the folder is another run's.

  Of what that one has removed there is nothing to tell, nor anything to remove.

  Raises:
    Refused: the folder is.
  """
  found: BaseException | None = error
  while found is not None:
    if isinstance(found, Refused):
      raise found
    found = found.__cause__ or found.__context__
  with contextlib.suppress(OSError):
    fence.check()


def quiet() -> None:
  """Keeps orbax from logging tracebacks of what is raised anyway."""
  logging.getLogger("absl").addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
  return record.exc_info is None or "orbax" not in record.pathname
