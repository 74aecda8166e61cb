"""The queue: what meets in a batch, what is turned away, what is forgotten."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest

from hyperjax.server.jobs import Full, Job, Late, Oversized
from hyperjax.server.programs import Asked
from hyperjax.serving import examples
from tests import served_example

pytestmark = pytest.mark.slow  # programs are compiled

TEXTS = served_example.questions()
ROWS = served_example.rows(served_example.RULES[0])


@contextlib.contextmanager
def held_up(service):
  """Whatever is asked meanwhile waits."""
  goes_on = threading.Event()
  service.engine.call(goes_on.wait)
  yield
  goes_on.set()


@contextlib.contextmanager
def limits(service, **changes):
  before = service.engine.limits
  service.engine.limits = dataclasses.replace(before, **changes)
  yield
  service.engine.limits = before


def asked(service, text, held=None):
  ids = np.asarray(examples.encode(service.model.vocabulary, text), np.int32)
  return Asked(tokens=ids, held=held, limit=6)


def texts(service, job):
  ends = service.model.backbone.config.eos_ids
  return [
    service.model.vocabulary.decode([i for i in one.tokens if i not in ends])
    for one in job.future.result(60)
  ]


def batches(service):
  """How many there were, and how many rows."""
  registry = service.metrics.registry
  return [
    registry.get_sample_value(f"hyperjax_batch_rows_{x}")
    for x in ("count", "sum")
  ]


@pytest.fixture(scope="module")
def adapters(client, service):
  """More than there are places on the devices."""
  some = [[(x["inputs"], x["targets"])] for x in ROWS[:10]]
  adapters = service.model.write([service.model.fit(pairs) for pairs in some])
  return [(x, service.programs.prepared(x, "it")) for x in adapters]


def test_waiting_rows_of_different_adapters_meet_in_one_batch(
  service, adapters
):
  before = batches(service)
  with held_up(service):
    jobs = [Job([asked(service, TEXTS[0], held)]) for _, held in adapters[:4]]
    for job in jobs:
      service.engine.submit(job)
  found = [texts(service, job)[0] for job in jobs]
  assert batches(service) == [before[0] + 1, before[1] + 4]
  wanted = [service.model.predict([TEXTS[0]], x)[0] for x, _ in adapters[:4]]
  assert found == wanted


def test_adapters_take_turns_on_the_devices(service, adapters):
  """Ten in eight places, some in one batch, each asked again after it had to go."""
  for text in TEXTS[:3]:
    for first in (0, 4, 6):
      some = adapters[first : first + 4]
      job = Job([asked(service, text, held) for _, held in some])
      service.engine.submit(job)
      wanted = [service.model.predict([text], x)[0] for x, _ in some]
      assert texts(service, job) == wanted
  assert service.programs.num_held == 8 < len(adapters)


def test_a_full_queue_turns_away_whole_jobs(service, client):
  with held_up(service), limits(service, queue=3):
    first = Job([asked(service, TEXTS[0])] * 2)
    service.engine.submit(first)
    with pytest.raises(Full, match="2 prompts are waiting, and 3 may"):
      service.engine.submit(Job([asked(service, TEXTS[1])] * 2))
    with pytest.raises(
      Oversized, match="4 answers are asked at once, and 3 may"
    ):
      service.engine.submit(Job([asked(service, TEXTS[1])] * 4))
    last = Job([asked(service, TEXTS[1])])
    service.engine.submit(last)
  assert len(texts(service, first)) == 2 and len(texts(service, last)) == 1


def test_more_writes_than_may_wait_are_turned_away(service, client):
  fitted = service.model.fit([(ROWS[0]["inputs"], ROWS[0]["targets"])])
  with held_up(service), limits(service, writes=2):
    taken = [service.engine.write(fitted) for _ in range(2)]
    with pytest.raises(Full, match="2 adapters are waiting to be written"):
      service.engine.write(fitted)
  assert len({future.result(60).identity for future in taken}) == 1


def test_what_has_waited_for_too_long_is_not_begun(service, client):
  with limits(service, timeout=0.05):
    with held_up(service):
      job = Job([asked(service, TEXTS[0])])
      service.engine.submit(job)
      threading.Event().wait(0.1)
    with pytest.raises(Late, match=r"waited for 0\.05 seconds"):
      job.future.result(60)


def test_a_cancelled_job_leaves_the_queue(service, client):
  before = batches(service)
  with held_up(service):
    gone, stays = (
      Job([asked(service, TEXTS[0])]),
      Job([asked(service, TEXTS[1])]),
    )
    for job in (gone, stays):
      service.engine.submit(job)
    gone.future.cancel()
  assert len(texts(service, stays)) == 1
  assert batches(service) == [before[0] + 1, before[1] + 1]


def test_a_watcher_that_fails_fails_its_job_alone(service, client):
  def watch(row, answered):
    raise RuntimeError("a fault")

  with held_up(service):
    broken = Job([asked(service, TEXTS[0])], watch)
    whole = Job([asked(service, TEXTS[1])])
    for job in (broken, whole):
      service.engine.submit(job)
  with pytest.raises(RuntimeError, match="a fault"):
    broken.future.result(60)
  assert texts(service, whole) == service.model.predict([TEXTS[1]])
