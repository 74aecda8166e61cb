"""The socket, and the server that listens at it until it is told to stop."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Iterator

import uvicorn

from hyperjax.data import files
from hyperjax.server import app, connections
from hyperjax.server.service import Service

_BACKLOG = 1024
_LAST = 30  # seconds for an answer that has begun when it is to stop
_KEPT_OPEN = 75  # seconds that a connection may be idle


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
  """A socket at an address, before anything that takes long.

  Raises:
    OSError: another listens there, or it is no address of this machine.
  """
  try:
    [(family, _, _, _, address), *_] = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    own = socket.create_server(address, family=family, backlog=_BACKLOG)
  except OSError as error:
    raise OSError(f"cannot listen at {host}, port {port}: {error}") from error
  with own:
    yield own


def serve(service: Service, at: socket.socket) -> None:
  """Answers until SIGTERM, or SIGINT; what was taken is answered first.

  It also ends where `service.failure` says that nothing more can be answered.
  """
  files.allow_many_open()
  service.on_ready = _freeze
  config = uvicorn.Config(
    app.make(service),
    log_level="warning",
    access_log=False,
    server_header=False,
    timeout_keep_alive=_KEPT_OPEN,
    # Whoever does not read an answer does not keep the server from its end.
    timeout_graceful_shutdown=int(service.options.limits.timeout) + _LAST,
    http=connections.Connection,
    limit_concurrency=connections.most_connections(
      service.options.most_at_once
    ),
    ws="none",
  )
  host, port = at.getsockname()[:2]
  shown = f"[{host}]" if ":" in host else host
  print(f"listening at http://{shown}:{port}/", flush=True)
  server = _Server(config)
  service.on_failed = server.give_up
  with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
    runner.run(server.serve(sockets=[at]))
  if server.was_interrupted:
    raise KeyboardInterrupt


def _freeze() -> None:
  """Has Python no longer look for garbage in what is there now.

  All of it stays, and to look through it takes the better part of a second, in which
  nobody is answered.
  """
  gc.collect()
  gc.freeze()


class _Server(uvicorn.Server):
  """One that ends by itself: uvicorn's own would send the signal again."""

  was_interrupted = False

  def give_up(self) -> None:
    """Has it end soon; any thread may ask."""
    self.should_exit = True

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    """Takes signals as a wish to stop; a second one stops at once."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
      before[number] = signal.signal(number, self.handle_exit)
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def handle_exit(self, sig: int, frame: object) -> None:
    self.was_interrupted = self.was_interrupted or sig == signal.SIGINT
    super().handle_exit(sig, frame)  # pyright: ignore[reportArgumentType]
