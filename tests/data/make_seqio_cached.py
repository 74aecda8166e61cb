"""Caches the toy task as users do: seqio's own script, on Beam's DirectRunner.

python -m venv beam && beam/bin/pip install seqio apache-beam[tfrecord]
beam/bin/python tests/data/make_seqio_cached.py tests/data/seqio_cached
"""

import pathlib
import sys
import tempfile

import seqio_cached_task
from absl import app
from seqio.scripts import cache_tasks_main

VOCABULARY = pathlib.Path(__file__).parents[2] / "tasks" / "records.model"


def main(output: str) -> None:
  with tempfile.TemporaryDirectory() as folder:
    seqio_cached_task.add(
      seqio_cached_task.NAME, VOCABULARY, pathlib.Path(folder)
    )
    given = [f"--tasks={seqio_cached_task.NAME}", "--min_shards=4"]
    given.append(f"--output_cache_dir={output}")
    app.run(cache_tasks_main.main, [sys.argv[0], *given])


if __name__ == "__main__":
  main(sys.argv[1])
