"""Stores of several parts, some of which wait at a gate while they are read.

Processes of their own make them; each reading of a part is noted in a file.
"""

import functools
import os
import time

from hyperjax.data.store import build, job, store

NUM_PARTS = 6
ROWS = 40
INFO = {"task": "gated", "split": "train", "vocabulary": None, "made_of": {}}


def read(folder, part, rows=ROWS):
  """The rows of a part: where the gate is shut, half of them, then the gate."""
  with open(folder / "reads", "a") as file:
    file.write(f"{part} {os.getpid()}\n")
  for i in range(rows):
    while i == rows // 2 and (folder / f"shut-{part}").exists():
      time.sleep(0.02)
    yield {"targets": [part, *range(i), 1], "record": {"id": f"{part}-{i}"}}


def jobs(folder, parts=NUM_PARTS):
  return [
    job.Job(
      folder / "tokens" / f"part-{part}",
      functools.partial(read, folder, part),
      ("targets",),
      INFO,
      100,
      keep_records=True,
      is_portable=True,
    )
    for part in range(parts)
  ]


def make(folder, num_processes):
  todo = jobs(folder)
  build.make_all(todo, num_processes)
  paths = [job.folder for job in todo]
  store.write_joined(folder / "tokens" / "all", paths, INFO)


def reads(folder):
  """(part, process) of each time that a part was read."""
  path = folder / "reads"
  lines = path.read_text().splitlines() if path.exists() else []
  return [tuple(map(int, line.split())) for line in lines]


def shut(folder, parts):
  folder.mkdir(exist_ok=True)
  for part in parts:
    (folder / f"shut-{part}").touch()


def open_gates(folder):
  for path in folder.glob("shut-*"):
    path.unlink()
