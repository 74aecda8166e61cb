"""What a request is refused with: a status and a sentence, in OpenAI's shape."""

import errno
from typing import Any

from hyperjax.memory.answer import OutOfMemory
from hyperjax.server.jobs import Full, Late, Oversized, Stopping
from hyperjax.serving.broken_rows import NotFinite

_TYPES = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Refusal(Exception):  # noqa: N818 - an answer
  """Answers a request instead of what it asked for."""

  def __init__(
    self,
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
  ):
    """Describes an answer.

    Args:
      status: of HTTP.
      message: a sentence: the name, the rule, what came.
      param: the field of the request's body that it is about.
      code: what programs may go by.
    """
    super().__init__(message)
    self.status, self.param, self.code = status, param, code

  @property
  def body(self) -> dict[str, Any]:
    """As JSON."""
    kind = "server_error" if self.status >= 500 else "invalid_request_error"
    return {
      "error": {
        "message": str(self),
        "type": _TYPES.get(self.status, kind),
        "param": self.param,
        "code": self.code,
      }
    }


def of(error: BaseException) -> Refusal | None:
  """What stands for an error of those below; None for one that is a fault."""
  if isinstance(error, Refusal):
    return error
  if isinstance(error, Full):
    return Refusal(429, str(error), code="queue_full")
  if isinstance(error, Oversized):
    return Refusal(400, str(error), "prompt", "too_many_prompts")
  if isinstance(error, Late):
    return Refusal(503, str(error), code="queue_timeout")
  if isinstance(error, Stopping):
    return Refusal(503, str(error), code="stopping")
  if isinstance(error, OutOfMemory):
    return Refusal(503, str(error), code="out_of_memory")
  if isinstance(error, NotFinite):
    return Refusal(500, str(error), code="not_finite")
  # Without a number it is a time that has passed.
  if isinstance(error, OSError) and error.errno is not None:
    return of_disk(error, "the server's files")
  return None


def of_disk(error: OSError, what: str) -> Refusal:
  """What stands for files that cannot be read or written."""
  if error.errno in _FULL:
    return Refusal(
      507, f"there is no room left for {what}: {error}", code="disk_full"
    )
  return Refusal(
    500, f"{what} cannot be read or written: {error}", code="disk_error"
  )
