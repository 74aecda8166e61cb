"""Why a file could not be written, in a sentence, and what to do."""

import errno
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


def not_written(path: pathlib.Path, error: OSError) -> OSError:
  """The error of a file beside the checkpoints that could not be written."""
  number = reason(error)
  if number is None:
    return error
  why, advice = words(number)
  return OSError(
    number,
    f"{path} cannot be written: {why}; {advice} and start the run again, it goes "
    "on from its last checkpoint",
  )


def words(number: int) -> tuple[str, str]:
  """What a number of `reason` means, and what to do about it."""
  return _KINDS[number], _ADVICE.get(number, "make it writable")
