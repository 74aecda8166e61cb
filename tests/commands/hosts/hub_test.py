"""Process 0 hears all, by itself and without JAX."""

import contextlib
import json
import socket
import threading
import time
from concurrent import futures

import pytest

from hyperjax.commands.hosts import hub, link, wire
from tests.commands.hosts import several

HOST = several.HOST


class Told:
  """What a process is told, when another fails."""

  def __init__(self):
    self.why = ""
    self._is_told = threading.Event()

  def __call__(self, why):
    self.why = why
    self._is_told.set()

  def wait(self):
    assert self._is_told.wait(10)
    return self.why


def _places(count):
  port = several.free_port()
  return [wire.Place("localhost", port, count, i) for i in range(count)]


def _connection(place):
  """To process 0, once it listens."""
  while True:
    try:
      return socket.create_connection((place.host, place.port))
    except ConnectionRefusedError:
      time.sleep(0.01)


class Processes:
  """Begins process 0's hub, and links side by side, as several processes."""

  def __init__(self):
    self.hubs, self._links = [], []

  def __call__(self, places, timeout=10.0, has_hub=True):
    if has_hub:
      self.hubs.append(hub.Hub(places[0], timeout))
    with futures.ThreadPoolExecutor() as threads:
      own = list(threads.map(lambda place: link.Link(place, timeout), places))
    self._links.extend(own)
    return own

  def close(self):
    for each in self._links:
      each.close()
    for each in self.hubs:
      each.wait()


@pytest.fixture
def begin():
  processes = Processes()
  yield processes
  processes.close()


def test_all_that_come_begin_together_whoever_comes_first(begin):
  places = _places(3)
  with futures.ThreadPoolExecutor() as threads:
    early = threads.submit(begin, places[2:], has_hub=False)
    time.sleep(0.3)  # process 0 does not listen yet
    assert not early.done()
    links = begin(places[:2])
    assert len(links + early.result()) == 3


def test_the_port_is_free_for_jax_once_all_have_come(begin):
  places = _places(2)
  begin(places)
  with socket.create_server(("", places[0].port)) as service:
    assert service.getsockname()[1] == places[0].port


def test_a_failure_reaches_all_others_and_not_the_one_that_failed(begin):
  places = _places(3)
  links, told = begin(places), [Told() for _ in places]
  for each, hears in zip(links, told, strict=True):
    each.watch(hears)
  links[1].fail("no space left")
  why = f"process 1 ({HOST}) failed: no space left"
  assert [told[0].wait(), told[2].wait()] == [why, why]
  for other in (links[0], links[2]):
    other.close()
  begin.hubs[0].wait()  # it has closed the connections of all
  time.sleep(0.2)
  assert told[1].why == ""


def test_one_that_leaves_before_all_have_come_may_come_again(begin):
  places = _places(3)
  with futures.ThreadPoolExecutor() as threads:
    first = threads.submit(begin, places[:1])
    with _connection(places[0]) as gone:
      hello = {"index": 1, "count": 3, "host": "a"}
      gone.sendall(json.dumps(hello).encode() + b"\n")
    assert len(begin(places[1:], has_hub=False) + first.result()) == 3


@pytest.mark.parametrize(
  "said",
  [
    b"GET /\r\nHost: a\r\n\r\n",
    b"[" * 70000,
    b'{"index": true}\n',
    b"\xff\n",
    b"",
  ],
  ids=["http", "long", "no_number", "no_text", "nothing"],
)
def test_a_stranger_at_the_port_is_no_partner(begin, said):
  places = _places(2)
  with futures.ThreadPoolExecutor() as threads:
    first = threads.submit(begin, places[:1])
    with _connection(places[0]) as stranger:
      with contextlib.suppress(OSError):
        stranger.sendall(said)
      assert len(begin(places[1:], has_hub=False) + first.result()) == 2


def test_of_many_that_lack_the_first_are_named(begin):
  (place, *_) = _places(12)
  with pytest.raises(
    wire.Failed,
    match=r"^processes 1, 2, 3, 4, 5, 6, 7, 8 and 3 more of 12 have not come",
  ):
    begin([place], 0.5)


def test_one_that_comes_when_the_run_has_begun_is_refused(begin):
  places = _places(2)
  begin(places)
  with (
    socket.create_server(("", places[0].port)) as service,
    futures.ThreadPoolExecutor() as threads,
  ):
    late = threads.submit(begin, places[1:], has_hub=False)
    service.accept()[0].close()  # as JAX does with what is not its own
    with pytest.raises(
      wire.Failed, match="no process 0 that waits for process 1"
    ):
      late.result()


def test_process_0_knows_why_it_ends_before_it_has_come_itself():
  (place, _) = _places(2)
  own = hub.Hub(place, 10)
  with _connection(place) as other:
    hello = {"index": 1, "count": 3, "host": "a"}
    other.sendall(json.dumps(hello).encode() + b"\n")
    assert json.loads(other.makefile().readline()) == {
      "stop": f"process 1 (a) was started with a process count of 3, process 0 "
      f"({HOST}) with 2"
    }
  own.wait()
  assert own.why.startswith(
    "process 1 (a) was started with a process count of 3"
  )
