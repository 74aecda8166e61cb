"""How far a command is: a bar on a terminal, else a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from hyperjax import metrics

_EVERY = 30.0  # seconds between lines


@contextlib.contextmanager
def counted(
  what: str, total: int, done: int = 0
) -> Iterator[Callable[[int], None]]:
  """Within it what it gives is called with how many more are done.

  Args:
    what: is counted, in the plural.
    total: of them there are.
    done: before.
  """
  import tqdm

  # tqdm disables itself (None) where standard error is not a terminal.
  with tqdm.tqdm(
    total=total, initial=done, unit=f" {what}", disable=None, file=sys.stderr
  ) as bar:
    start = last = time.monotonic()
    count = done

    def add(more: int) -> None:
      nonlocal count, last
      count += more
      bar.update(more)
      now = time.monotonic()
      if bar.disable and now - last >= _EVERY and count < total:
        left = (total - count) * (now - start) / (count - done)
        last = now
        print(
          f"{count:,} of {total:,} {what}, {metrics.clock(left)} left",
          file=sys.stderr,
          flush=True,
        )

    yield add
