"""`hyperjax serve`: a model and its adapters behind an address."""

import argparse
import pathlib
import sys

from hyperjax import checks, paths
from hyperjax.commands import model_options
from hyperjax.server import options

_PORT = checks.Whole(0, 65535)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  model_options.add(parser, "a hypermodel's run folder")
  parser.add_argument(
    "--adapters",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="of adapter folders, each by its name; made if it is not there",
  )
  parser.add_argument(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="to listen at (127.0.0.1: this machine alone); any other needs "
    "--token_file",
  )
  parser.add_argument(
    "--token_file",
    type=pathlib.Path,
    metavar="FILE",
    help="a token on each line; requests must bring one of them",
  )
  _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
  """Options of numbers, as `options.Options` declares them."""
  own = options.Options()
  milliseconds = checks.Number(least=0, most=1000 * options.LONGEST_WAIT)
  for option, declared, default, summary in (
    ("--port", _PORT, 8000, "to listen at; 0 takes a free one"),
    (
      "--batch_size",
      options.Rows,
      own.batch_size,
      "prompts answered together",
    ),
    (
      "--max_wait_ms",
      milliseconds,
      1000 * own.limits.wait,
      "milliseconds that a prompt waits for others",
    ),
    (
      "--max_queue",
      checks.Count,
      own.limits.queue,
      "prompts that wait at most",
    ),
    (
      "--timeout",
      options.Seconds,
      own.limits.timeout,
      "seconds that one waits at most",
    ),
    (
      "--max_body_kib",
      checks.Whole(1, options.LARGEST_BODY),
      own.most_bytes // options.KIB,
      "KiB of a request's body at most",
    ),
    (
      "--max_requests",
      checks.Count,
      own.most_at_once,
      "requests at once at most",
    ),
    (
      "--adapters_in_memory",
      options.Held,
      own.in_memory,
      "the last used ones",
    ),
    (
      "--max_adapters",
      checks.Count,
      own.on_disk,
      "adapters that are kept",
    ),
  ):
    text = f"{summary} ({default:g})"
    checks.add_option(parser, option, declared, text, default=default)


def run(arguments: argparse.Namespace) -> int:
  """Answers until it is told to stop, by SIGTERM or Ctrl-C; the exit status.

  That is 1 where it could not become ready, or go on.

  Raises:
    ValueError: the model, the folder or the tokens are not usable.
    ImportError: what serves is not installed.
    OSError: the address cannot be listened at.
  """
  tokens = _tokens(arguments.token_file)
  from hyperjax.commands import compiled
  from hyperjax.server import guard, listening, service

  is_local = guard.is_loopback(arguments.host)
  if not is_local and not tokens:
    raise ValueError(
      f"--host {arguments.host} can be reached from other machines: it needs "
      "--token_file, a file with a token on each line"
    )
  _check_folder(arguments.adapters)
  compiled.keep()
  allowed = options.Options(
    batch_size=arguments.batch_size,
    in_memory=arguments.adapters_in_memory,
    on_disk=arguments.max_adapters,
    limits=options.Limits(
      queue=arguments.max_queue,
      wait=arguments.max_wait_ms / 1000,
      timeout=arguments.timeout,
    ),
    tokens=tokens,
    is_local=is_local and not tokens,
    most_at_once=arguments.max_requests,
    most_bytes=arguments.max_body_kib * options.KIB,
  )
  with listening.bound(arguments.host, arguments.port) as socket:
    model = model_options.load(arguments)
    served = service.Service(
      model, arguments.adapters, allowed, lambda line: print(line, flush=True)
    )
    listening.serve(served, socket)
  if served.failure is not None:
    print(f"hyperjax serve: {served.failure}", file=sys.stderr)
    return 1
  return 0


def _check_folder(adapters: pathlib.Path) -> None:
  paths.check_local(
    str(adapters),
    "--adapters",
    "a server keeps its adapters on a disk; copy them here",
  )
  if adapters.exists() and not adapters.is_dir():
    raise ValueError(
      f"--adapters {adapters} is a file, and a folder is needed: that of the "
      "adapters, or one that is not there yet"
    )


def _tokens(path: pathlib.Path | None) -> list[str]:
  """One of each line; at least one, if there is a file.

  Raises:
    ValueError: there is none, or one that no header can hold.
  """
  if path is None:
    return []
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"--token_file {path} cannot be read: {error}") from error
  tokens = [line.strip() for line in lines if line.strip()]
  if not tokens:
    raise ValueError(f"--token_file {path} holds no token")
  for number, token in enumerate(tokens, 1):
    if not (token.isascii() and token.isprintable()) or " " in token:
      raise ValueError(
        f"--token_file {path}: token {number} must be printable ASCII without "
        "blanks, as a header holds it"
      )
  return tokens
