"""Process 0 hears all, by itself and without JAX."""

import contextlib
import json
import socket
import threading

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


def _linked(places, timeout=10.0):
  """The links of all places, made side by side as by several processes."""
  made = dict.fromkeys(range(len(places)))

  def make(number):
    made[number] = link.Link(places[number], timeout)

  threads = [threading.Thread(target=make, args=(i,)) for i in made]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return list(made.values())


def test_all_that_come_begin_together_whoever_comes_first():
  places = _places(3)
  early = []
  thread = threading.Thread(
    target=lambda: early.append(link.Link(places[2], 10))
  )
  thread.start()  # before process 0 listens
  assert not early
  hub.Hub(places[0], 10)
  links = _linked(places[:2])
  thread.join()
  assert len(links + early) == 3 and None not in links


def test_the_port_is_free_for_jax_once_all_have_come():
  places = _places(2)
  hub.Hub(places[0], 10)
  links = _linked(places)
  with socket.create_server(("", places[0].port)) as service:
    assert service.getsockname()[1] == places[0].port
  assert None not in links


def test_a_failure_reaches_all_others_and_not_the_one_that_failed():
  places = _places(3)
  hub.Hub(places[0], 10)
  links, told = _linked(places), [Told() for _ in places]
  for each, hears in zip(links, told, strict=True):
    each.watch(hears)
  links[1].fail("no space left")
  why = f"process 1 ({HOST}) failed: no space left"
  assert [told[0].wait(), told[2].wait()] == [why, why]
  assert told[1].why == ""


def test_one_that_leaves_before_all_have_come_may_come_again():
  places = _places(2)
  hub.Hub(places[0], 10)
  with socket.create_connection(("localhost", places[0].port)) as gone:
    hello = {"index": 1, "count": 2, "host": "a"}
    gone.sendall(json.dumps(hello).encode() + b"\n")
  assert None not in _linked(places)


@pytest.mark.parametrize(
  "said",
  [
    b"GET / HTTP/1.1\r\n\r\n",
    b"[" * 70000,
    b'{"index": true}\n',
    b"\xff\n",
    b"",
  ],
  ids=["http", "long", "no_number", "no_text", "nothing"],
)
def test_a_stranger_at_the_port_is_no_partner(said):
  places = _places(2)
  hub.Hub(places[0], 10)
  with socket.create_connection(("localhost", places[0].port)) as stranger:
    with contextlib.suppress(OSError):
      stranger.sendall(said)
    assert None not in _linked(places)


def test_of_many_that_lack_the_first_are_named():
  (place, *_) = _places(12)
  hub.Hub(place, 0.5)
  with pytest.raises(
    wire.Failed,
    match=r"^processes 1, 2, 3, 4, 5, 6, 7, 8 and 3 more of 12 have not come",
  ):
    link.Link(place, 0.5)


def test_one_that_comes_when_the_run_has_begun_is_refused():
  places = _places(2)
  hub.Hub(places[0], 10)
  links = _linked(places)
  with socket.create_server(("", places[0].port)) as service:
    threading.Thread(target=lambda: service.accept()[0].close()).start()
    with pytest.raises(
      wire.Failed, match=r"no process 0 that waits for process 1"
    ):
      link.Link(places[1], 10)
  assert None not in links
