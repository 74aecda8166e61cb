"""Processes of this machine that are started as one run."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests import conftest

HOST = socket.gethostname()


def free_port() -> int:
  with socket.socket() as taken:
    taken.bind(("localhost", 0))
    return taken.getsockname()[1]


def options(port: int, count: int, index: int, timeout: float) -> list[str]:
  return [
    f"--coordinator_address=localhost:{port}",
    f"--process_count={count}",
    f"--process_index={index}",
    f"--start_timeout={timeout}",
  ]


def start(
  command: Sequence[str], environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
  """`python -m COMMAND`, whose output and errors are one text."""
  return subprocess.Popen(
    [sys.executable, "-m", *command],
    env=os.environ
    | {"PYTHONPATH": str(conftest.ROOT), "JAX_PLATFORMS": "cpu"}
    | (environment or {}),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def train(
  port: int, count: int, index: int, timeout: float = 20
) -> subprocess.Popen[str]:
  """`hyperjax train` that has no gin file: once all have come, it is refused."""
  given = options(port, count, index, timeout)
  return start(["hyperjax.main", "train", *given])


def member(
  what: str, port: int, count: int, index: int, timeout: float = 60
) -> subprocess.Popen[str]:
  """`member`, which does WHAT."""
  given = options(port, count, index, timeout)
  return start(["tests.commands.hosts.member", what, *given])


def said(process: subprocess.Popen[str], seconds: float = 60) -> str:
  """What a process says until it ends, which it does within so many seconds."""
  try:
    return process.communicate(timeout=seconds)[0]
  finally:
    process.kill()
