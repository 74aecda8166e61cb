"""Storing tokens in parts, and opening stores of the size of C4 and of P3.

- tokens a second on one core, for documents cut to the length of C4's, from
  JSON lines to a finished store; and what that makes for all of C4;
- time and memory to open a store of C4's size (1,024 parts, 365 million
  documents, 180 billion tokens: one sparse file stands for all), and windows a
  second from there on;
- time and memory to open episodes of one task of many rows, where all fit as a
  demonstration and where some do not.

DIR holds text/*train*.json.gz and vocab/t5/spiece.model:

  python -m benchmarks.stores --data_dir=DIR [--rows=32000000]
"""

import argparse
import functools
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import measuring
from hyperjax.batch import Lengths
from hyperjax.data import episodes, text, vocabulary
from hyperjax.data.store import store, tokenising
from hyperjax.tasks import c4

REPEATS = 3
CHARACTERS = 2180  # of a document of C4, on average
C4_TOKENS = 170e9
INFO = {"task": "synthetic", "split": "train", "vocabulary": None}
_BLOCK = 1 << 20


def write_documents(data_dir: pathlib.Path, path: pathlib.Path) -> None:
  """The text of `data_dir`, in documents of C4's length and with its fields."""
  paths = sorted((data_dir / "text").glob("*train*.json.gz"))
  with gzip.open(path, "wt", 6) as file:
    for row in c4.rows(paths):
      whole = row["targets"]
      for begin in range(0, len(whole), CHARACTERS):
        line = {
          "text": whole[begin : begin + CHARACTERS],
          "timestamp": "2019-04-25T12:57:54Z",
          "url": "https://example.com/a-page-like-many.html",
        }
        file.write(json.dumps(line) + "\n")


def report_tokens(data_dir: pathlib.Path, folder: pathlib.Path) -> list[str]:
  path = folder / "documents.json.gz"
  write_documents(data_dir, path)
  own = vocabulary.SentencePiece(str(data_dir / "vocab/t5/spiece.model"))
  features = {"targets": tokenising.Feature(own, add_eos=True)}
  read = functools.partial(c4.rows, [path])
  rates, num_tokens = [], 0
  for repeat in range(REPEATS):
    begin = time.process_time()
    num_tokens = store.write(
      folder / f"tokens-{repeat}",
      tokenising.tokenised(read, features),
      ("targets",),
      INFO,
      own.size,
      keep_records=False,
    )
    rates.append(num_tokens / (time.process_time() - begin))
  hours = [C4_TOKENS / rate / 3600 for rate in rates]
  on_64 = [60 * hour / 64 for hour in hours]
  return [
    f"{num_tokens:,} tokens of documents of {CHARACTERS} characters",
    f"{measuring.spread([rate / 1e6 for rate in rates], 2)} million tokens a "
    "second of one core",
    f"C4's {C4_TOKENS / 1e9:.0f} billion: {measuring.spread(hours, 1)} hours of "
    f"one core, {measuring.spread(on_64, 0)} minutes of 64",
  ]


def write_synthetic(
  folder: pathlib.Path, num_rows: int, lengths: dict[str, int], num_long: int
) -> None:
  """A store whose tokens are all 0 and take no room on disk.

  Rows are alike, but for the first `num_long` of every thousand, which have 100
  times as many tokens.
  """
  folder.mkdir(parents=True)
  own = np.array(list(lengths.values()))
  end = 0
  with open(folder / "offsets.bin", "wb") as file:
    np.zeros(1, np.int64).tofile(file)
    for first in range(0, num_rows, _BLOCK):
      rows = np.arange(first, min(first + _BLOCK, num_rows))
      times = np.where(rows % 1000 < num_long, 100, 1)
      ends = end + np.cumsum(times[:, None] * own)
      ends.tofile(file)
      end = int(ends[-1])
  with open(folder / "hashes.bin", "wb") as file:
    np.arange(num_rows, dtype=np.uint64).tofile(file)
  with open(folder / "tokens.bin", "wb") as file:
    file.truncate(2 * end)
  most = 100 if num_long else 1
  facts = {
    "format": store.FORMAT,
    "features": list(lengths),
    "dtype": "uint16",
    "rows": num_rows,
    "tokens": end,
    "records": False,
    "longest": {name: most * length for name, length in lengths.items()},
    "last_id": dict.fromkeys(lengths, 0),
  }
  (folder / store.INFO).write_text(json.dumps(facts | INFO))


class _Ending:
  """A vocabulary of which only the end of sequence matters."""

  eos_id = 0


def open_windows(task: store.Task) -> text.Caclm:
  lengths = Lengths(32, 128, demonstrations=354)
  return text.Caclm([task], text.CaclmLengths(), lengths)


def open_episodes(task: store.Task) -> episodes.Episodes:
  lengths = Lengths(512, 128, demonstrations=1024)
  return episodes.Episodes([task], episodes.FewShot((16, 16)), lengths)


OPENERS = {"windows": open_windows, "episodes": open_episodes}


def start(folder: str, kind: str) -> dict[str, float]:
  """In a fresh process: opens a store and draws from it."""
  begin = time.perf_counter()
  rows, _ = store.read(pathlib.Path(folder))
  own: Any = _Ending()
  source = OPENERS[kind](store.Task("synthetic", "train", rows, 1.0, own))
  source[0]
  opened = time.perf_counter()
  for index in range(2000):
    source[index]
  drawn = time.perf_counter()
  return {
    "opening": opened - begin,
    "drawing": 2000 / (drawn - opened),
    "memory": memory(),
  }


def memory() -> float:
  """MiB of this process's own; pages of files may be dropped at any time."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith("RssAnon"):
      return int(line.split()[1]) / 1024
  raise ValueError("/proc/self/status does not give RssAnon")


def report_opening(folder: pathlib.Path, kind: str) -> Iterator[str]:
  found = []
  for _ in range(REPEATS):
    command = [sys.executable, "-m", "benchmarks.stores"]
    command += [f"--start={folder}", f"--kind={kind}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found.append(json.loads(done.stdout.splitlines()[-1]))
  for name, meaning, digits, unit in (
    ("opening", "to the first", 2, "s"),
    ("drawing", "then", 0, f"{kind}/s"),
    ("memory", "memory of its own", 0, "MiB"),
  ):
    spread = measuring.spread([one[name] for one in found], digits)
    yield f"{meaning:<28} {spread} {unit}"


def report(arguments: argparse.Namespace, folder: pathlib.Path) -> None:
  data_dir = pathlib.Path(arguments.data_dir)
  print("\nStoring documents")
  for line in report_tokens(data_dir, folder):
    print(f"  {line}", flush=True)
  print("\nA store of C4's size, windows")
  write_synthetic(folder / "part", 356_000, {"targets": 513}, 0)
  store.write_joined(folder / "c4", [folder / "part"] * 1024, INFO)
  for line in report_opening(folder / "c4", "windows"):
    print(f"  {line}", flush=True)
  for num_long in (0, 5):
    all_fit = "some do not fit" if num_long else "all fit"
    print(f"\nEpisodes of a task of {arguments.rows:,} rows, {all_fit}")
    lengths = {"inputs": 56, "targets": 4}
    pairs = folder / f"pairs-{num_long}"
    write_synthetic(pairs, arguments.rows, lengths, num_long)
    for line in report_opening(pairs, "episodes"):
      print(f"  {line}", flush=True)


def main() -> None:
  parser = argparse.ArgumentParser("python -m benchmarks.stores")
  parser.add_argument(
    "--data_dir", default=os.environ.get("HYPERJAX_TEST_DATA")
  )
  parser.add_argument("--rows", type=int, default=32_000_000)
  parser.add_argument("--start", help=argparse.SUPPRESS)
  parser.add_argument("--kind", choices=OPENERS, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.start:
    print(json.dumps(start(arguments.start, arguments.kind)))
    return
  if not arguments.data_dir:
    parser.error("give --data_dir=DIR, or set HYPERJAX_TEST_DATA")
  print(measuring.machine())
  print(f"median (least to most) of {REPEATS}")
  with tempfile.TemporaryDirectory() as folder:
    report(arguments, pathlib.Path(folder))


if __name__ == "__main__":
  main()
