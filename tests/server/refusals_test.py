"""Which status a request is refused with."""

import pytest

from hyperjax.server import guard, refusals
from hyperjax.server.engine import Engine
from hyperjax.server.jobs import Full, Job, Oversized
from hyperjax.server.options import Limits


def test_what_no_queue_could_hold_is_a_fault_of_the_request():
  """And not to be sent again: no time will help."""
  engine = Engine(None, None, Limits(queue=4))
  with pytest.raises(Oversized, match="5 answers are asked") as error:
    engine.submit(Job([None] * 5))
  refusal = refusals.of(error.value)
  assert (refusal.status, refusal.param) == (400, "prompt")
  assert "Retry-After" not in guard.refused(refusal).headers
  full = refusals.of(Full("later"))
  assert full.status == 429
  assert guard.refused(full).headers["Retry-After"] == "1"
