"""Few-shot episodes of all Super-NaturalInstructions training tasks.

With 16 demonstrations in lengths of runs/mtf_sni.gin:
- time to store the tokens, against tokenising the same text alone with the same
  SentencePiece in the same process, in as many threads and in one;
- time from the start of a process to its first batch, and its peak of resident
  memory: with nothing stored, on a second start, and on one from stored tokens
  alone (USE_CACHED_TASKS), without TensorFlow;
- episodes per second on one core;
- size of the data's position in a checkpoint, and what continuing there takes.

DIR holds sni/tasks/*.json, sni/splits/LIST/ and vocab/t5/spiece.model:

  python -m benchmarks.episodes --data_dir=DIR [--split_list=small] \
    [--cache_dir=DIR]
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import measuring
from hyperjax.batch import assemble
from hyperjax.data import feed, sources, vocabulary
from hyperjax.data.store import seqio_store
from hyperjax.tasks import superni

REPEATS = 3
CONTEXTS = 256
STEPS = 10_000  # after which the position is that of a whole run
LENGTHS = {"demonstrations": 1024, "inputs": 1024, "targets": 128}
EPISODES = 500
STARTS = {
  "first": "nothing is stored",
  "second": "tokens are stored",
  "cached": "USE_CACHED_TASKS = True",
}


@dataclasses.dataclass(frozen=True)
class Start:
  """What a fresh process says of its way to the first batch; seconds, MiB."""

  imports: float
  opening: float
  first_batch: float
  peak: float


def episodes(
  arguments: argparse.Namespace, use_cached: bool = False
) -> sources.FewShotEpisodes:
  """Of the training tasks, always with 16 demonstrations."""
  provider = superni.SuperNaturalInstructions(
    arguments.data_dir, split_list=arguments.split_list
  )
  tasks = seqio_store.SeqioTasks(
    "sni_train",
    providers=(provider,),
    cache_dir=arguments.cache_dir,
    use_cached=use_cached,
  )
  return sources.FewShotEpisodes(tasks, LENGTHS, (16, 16))


def start(arguments: argparse.Namespace) -> Start:
  """Runs in a fresh process: from its start to the first batch."""
  data = episodes(arguments, arguments.start == "cached")
  built = time.time()
  source = data.open(seed=0)
  opened = time.time()
  with feed.Feed(source, CONTEXTS) as batches:
    next(batches)
  done = time.time()
  begin = arguments.started_at
  return Start(built - begin, opened - built, done - begin, peak_memory())


def peak_memory() -> float:
  """MiB of this process alone, where getrusage would count its parent's too."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmHWM"):
      return int(line.split()[1]) / 1024
  raise ValueError("/proc/self/status does not give VmHWM")


def spawn(arguments: argparse.Namespace, kind: str, cache_dir: str) -> Start:
  given = vars(arguments) | {
    "start": kind,
    "cache_dir": cache_dir,
    "started_at": time.time(),
  }
  options = [f"--{name}={value}" for name, value in given.items()]
  done = subprocess.run(
    [sys.executable, "-m", "benchmarks.episodes", *options],
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return Start(**json.loads(done.stdout.splitlines()[-1]))


def texts_by_task(tasks: Any) -> list[list[str]]:
  """Inputs and targets of every row, task by task."""
  return [
    [
      row[feature]
      for row in task.source.rows("train")
      for feature in ("inputs", "targets")
    ]
    for task, _ in tasks.find()
  ]


def tokenise(
  texts: Sequence[Sequence[str]],
  encoder: vocabulary.SentencePiece,
  workers: int,
) -> int:
  """Tokens of all texts, the ends of sequences not counted."""

  def count(of_task: Sequence[str]) -> int:
    return sum(len(encoder.encode(text)) for text in of_task)

  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    return sum(pool.map(count, texts))


def report_store(tasks: Any) -> list[str]:
  """Storing tokens against reading and tokenising alone, in turn."""
  for provider in tasks.providers:
    provider.register()
  texts = texts_by_task(tasks)
  provider = tasks.providers[0]
  path = pathlib.Path(provider.data_dir) / provider.vocabulary
  encoder = vocabulary.SentencePiece(str(path), provider.extra_ids)
  workers = max(1, min(4, os.cpu_count() or 1))  # as many as the store takes
  with tempfile.TemporaryDirectory() as folder:
    fresh = itertools.count()

    def store() -> None:
      empty = f"{folder}/{next(fresh)}"
      dataclasses.replace(tasks, cache_dir=empty).open()

    works: dict[str, Callable[[], Any]] = {
      "storing tokens": store,
      "reading the files": lambda: texts_by_task(tasks),
      f"tokenising, {workers} threads": lambda: tokenise(
        texts, encoder, workers
      ),
      "tokenising, 1 thread": lambda: tokenise(texts, encoder, 1),
    }
    taken = measuring.in_turn(works, REPEATS)
  characters = sum(len(text) for of_task in texts for text in of_task)
  lines = [
    f"{len(texts)} tasks, {sum(map(len, texts)) // 2:,} rows, "
    f"{characters / 1e6:.1f} million characters"
  ]
  stored, *others = works
  lines.append(f"{stored:<28} {measuring.spread(taken[stored], 2):<24} s")
  for name in others:
    ratio = measuring.spread(measuring.ratios(taken[stored], taken[name]), 2)
    spread = measuring.spread(taken[name], 2)
    lines.append(f"{name:<28} {spread:<24} s; storing takes {ratio} times that")
  return lines


def report_starts(
  arguments: argparse.Namespace, cache_dir: str
) -> Iterator[str]:
  """Fresh processes, in turn; the first one finds nothing stored."""
  found: dict[str, list[Start]] = {kind: [] for kind in STARTS}
  with tempfile.TemporaryDirectory() as empty:
    for repeat in range(REPEATS):
      found["first"].append(spawn(arguments, "first", f"{empty}/{repeat}"))
      for kind in ("second", "cached"):
        found[kind].append(spawn(arguments, kind, cache_dir))
  for kind, meaning in STARTS.items():
    yield f"{kind} start ({meaning})"
    for field, name, unit in (
      ("imports", "imports", "s"),
      ("opening", "opening tasks", "s"),
      ("first_batch", "in all, to the first batch", "s"),
      ("peak", "peak of resident memory", "MiB"),
    ):
      values = [getattr(one, field) for one in found[kind]]
      yield f"  {name:<28} {measuring.spread(values, 1 if unit == 's' else 0)} {unit}"


def report_episodes(data: sources.FewShotEpisodes) -> Iterator[str]:
  """One thread, so one core; from stored tokens."""
  source = data.open(seed=0)
  lengths = source.lengths
  blocks = [range(i * EPISODES, (i + 1) * EPISODES) for i in range(2 * REPEATS)]
  seconds = {"token ids": [], "and padded to a batch": []}
  for block in blocks:
    begin = time.perf_counter()
    contexts = [source[i] for i in block]
    made = time.perf_counter()
    assemble(contexts, lengths)
    padded = time.perf_counter()
    seconds["token ids"].append(made - begin)
    seconds["and padded to a batch"].append(padded - begin)
  yield f"{len(source.tasks)} tasks, {lengths}"
  for name, values in seconds.items():
    rates = [EPISODES / value for value in values]
    yield f"{name:<28} {measuring.spread(rates, 0)} episodes/s"
  position = STEPS * CONTEXTS
  facts = json.dumps({"position": position})
  yield f"position after {STEPS:,} steps of {CONTEXTS} contexts:"
  yield f"  {facts}, {len(facts)} bytes of JSON"
  begin = time.perf_counter()
  with feed.Feed(source, CONTEXTS, position) as batches:
    next(batches)
  taken = time.perf_counter() - begin
  yield f"  the first batch of {CONTEXTS} from there on: {taken:.2f} s"


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser("python -m benchmarks.episodes")
  parser.add_argument(
    "--data_dir",
    help="by default HYPERJAX_TEST_DATA",
    default=os.environ.get("HYPERJAX_TEST_DATA"),
  )
  parser.add_argument("--split_list", default="small", help="of splits/")
  parser.add_argument("--cache_dir", help="of stored tokens; else a new one")
  parser.add_argument("--start", choices=STARTS, help=argparse.SUPPRESS)
  parser.add_argument("--started_at", type=float, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if not arguments.data_dir:
    parser.error("give --data_dir=DIR, or set HYPERJAX_TEST_DATA")
  tasks = pathlib.Path(arguments.data_dir) / "sni" / "tasks"
  if not tasks.is_dir():
    parser.error(f"there is no folder {tasks}")
  return arguments


def main() -> None:
  # Rows that are left out are counted again by every repeat.
  logging.getLogger("hyperjax").setLevel(logging.ERROR)
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  arguments = parse()
  if arguments.start:
    print(json.dumps(dataclasses.asdict(start(arguments))))
    return
  print(measuring.machine())
  print(f"median (least to most), {REPEATS} repeats in turn")
  with tempfile.TemporaryDirectory() as own:
    arguments.cache_dir = arguments.cache_dir or own
    data = episodes(arguments)
    data.tasks.open()
    sections = (
      ("Storing tokens", lambda: report_store(data.tasks)),
      ("Starting", lambda: report_starts(arguments, arguments.cache_dir)),
      ("Episodes", lambda: report_episodes(data)),
    )
    for title, lines in sections:
      print(f"\n{title}")
      for line in lines():
        print(f"  {line}", flush=True)


if __name__ == "__main__":
  main()
