"""Why a save failed, in one sentence, and what to do."""

import errno
import logging
import os
import pathlib

_KINDS = {
  errno.ENOSPC: "no space is left on the disk",
  errno.EDQUOT: "the disk quota is used up",
  errno.EROFS: "the file system is read-only",
  errno.EACCES: "this user may not write there",
  errno.EPERM: "this user may not write there",
  errno.EFBIG: "a file would be larger than this process may write",
}
_ADVICE = {
  errno.ENOSPC: "make room",
  errno.EDQUOT: "make room",
  errno.EFBIG: "raise the limit (ulimit -f)",
}


class SaveFailed(OSError):  # noqa: N818 - an outcome
  """A checkpoint could not be written; those before it are as they were."""


def reason(error: BaseException) -> int | None:
  """The number of the system's error that lies behind another; None without.

  TensorStore's say it in words alone.
  """
  seen: list[BaseException] = []
  at: BaseException | None = error
  while at is not None and at not in seen:
    seen.append(at)
    if isinstance(at, OSError) and at.errno in _KINDS:
      return at.errno
    for number in _KINDS:
      if os.strerror(number) in str(at):
        return number
    at = at.__cause__ or at.__context__
  return None


def sentence(what: str, number: int, last: int | None) -> str:
  """What failed and why, what is safe, and what to do."""
  kept = "no checkpoint was written before"
  if last is not None:
    kept = f"the last good checkpoint is of step {last}"
  advice = _ADVICE.get(number, "make it writable")
  return (
    f"{what} cannot be written: {_KINDS[number]}. Nothing is lost: {kept}; "
    f"{advice} and start the run again, it goes on from there"
  )


def not_written(path: pathlib.Path, error: OSError) -> OSError:
  """The error of a file beside the checkpoints that could not be written."""
  number = reason(error)
  if number is None:
    return error
  advice = _ADVICE.get(number, "make it writable")
  return OSError(
    number,
    f"{path} cannot be written: {_KINDS[number]}; {advice} and start the run "
    "again, it goes on from its last checkpoint",
  )


def quiet() -> None:
  """Keeps orbax from logging tracebacks of what is raised anyway."""
  logging.getLogger("absl").addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
  return record.exc_info is None or "orbax" not in record.pathname
