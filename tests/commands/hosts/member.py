"""A process of several: `python -m tests.commands.hosts.member WHAT OPTIONS`.

WHAT it does once all have come: `wait`, `finish`, `linger` (finish after a second),
`fail` (as what is refused), `crash`, `hold=FOLDER` (its lease, and wait).
"""

import pathlib
import sys
import time

from hyperjax.commands import arguments
from hyperjax.commands.hosts import joining


def main() -> int:
  what, *options = sys.argv[1:]
  known, _ = arguments.parser().parse_known_args(["train", *options])
  try:
    with joining.joined(known):
      print("joined", flush=True)
      if what == "linger":
        time.sleep(1)
      elif what == "fail":
        raise ValueError("row 3 is empty\nand more of it")
      elif what == "crash":
        raise OSError("no room")
      elif what.startswith("hold="):
        from hyperjax.artifacts import lease

        with lease.Lease(pathlib.Path(what.removeprefix("hold="))):
          print("held", flush=True)
          time.sleep(600)
      elif what == "wait":
        time.sleep(600)
  except (ValueError, OSError) as error:
    print(f"own: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  joining.run(main)
