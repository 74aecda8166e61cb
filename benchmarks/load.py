"""Requests a second, latency and memory of `hyperjax serve` on this machine.

With the demo's model, or any other run of a hypermodel of the records:

  python -m benchmarks.load --model=runs/demo_lora/multitask --seconds=60 \
    --peft_python=OTHER/bin/python --json=load.json

A server is started on a free port of the loopback, and 200 adapters are written through
it. Then 1, 8 and 64 clients (or `--clients`) each ask it again as soon as they are
answered, an adapter after another. Its memory is held against what it was after the
first tenth of the longest level. `--peft_python` names a Python that has torch,
transformers and peft: it answers the same prompts in batches, without a server, in the
same run, for a minute at most.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import measuring
from hyperjax import paths
from hyperjax.tasks import records

ADAPTERS, EXAMPLES, CLIENTS = 200, 4, (1, 8, 64)
_FIRST = 0.1  # of a level, in which memory may still grow
_READY = 900  # seconds
_COMPARED = 64  # answers
_PEFT = 60.0  # seconds
# What two milliseconds of arithmetic take beside all that, one in a hundred: where
# the machine has others to do, this is how late they make whoever asks.
_BARE = """
import time
end, taken = time.perf_counter() + {seconds}, []
while (start := time.perf_counter()) < end:
  spun = time.thread_time() + 0.002
  while time.thread_time() < spun: pass
  taken.append(time.perf_counter() - start)
  time.sleep(0.05)
print(sorted(taken)[int(0.99 * len(taken))])
"""


@dataclasses.dataclass(frozen=True)
class Server:
  """A running one."""

  process: subprocess.Popen
  port: int

  @property
  def mib(self) -> float:
    """Memory that it holds."""
    statm = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text()
    return int(statm.split()[1]) * resource.getpagesize() / 2**20

  def get(self, path: str) -> bytes:
    address = f"http://127.0.0.1:{self.port}{path}"
    with urllib.request.urlopen(address, timeout=60) as answer:
      return answer.read()

  def post(self, path: str, body: Any) -> Any:
    request = urllib.request.Request(
      f"http://127.0.0.1:{self.port}{path}",
      json.dumps(body).encode(),
      {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
      return json.load(answer)


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, metavar="RUN")
  parser.add_argument("--backbone", metavar="FOLDER")
  parser.add_argument("--seconds", type=float, default=20.0)
  parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
  parser.add_argument("--peft_python", metavar="PROGRAM")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
  given = parser.parse_args(arguments)
  print(f"{measuring.machine()}; {given.model}, {ADAPTERS} adapters")
  with tempfile.TemporaryDirectory() as folder:
    found = measure(given, pathlib.Path(folder))
  if given.json:
    paths.replace(given.json, json.dumps(found, indent=1) + "\n")


def measure(given: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
  """All figures, which are printed as they come."""
  found: dict[str, Any] = {"levels": []}
  theirs = folder / "peft"
  with serving(given, folder / "adapters") as server:
    names = write_adapters(server)
    asked = prompts(names)
    bodies = [
      request({"model": name, "prompt": text}, server.port)
      for name, text in asked
    ]
    for clients in given.clients:
      level = asyncio.run(load(server, bodies, clients, given.seconds))
      found["levels"].append(level)
      print(_line(level), flush=True)
    metrics = server.get("/metrics").decode()
    [compiled] = re.findall(r"^hyperjax_compilations (\S+)", metrics, re.M)
    found["compilations"] = float(compiled)
    print(f"programs compiled since it was ready: {float(compiled):.0f}")
    if given.peft_python:
      model = export(server, names, asked, given, theirs)
      told = [
        server.post("/v1/completions", {"model": name, "prompt": text})
        for name, text in asked[:_COMPARED]
      ]
      found |= beside_peft(given, model, told, theirs)
      ours = found["levels"][-1]["requests_per_second"]
      times = ours / found["peft_rows_per_second"]
      print(
        f"peft, batches of 64: {found['peft_rows_per_second']:.0f} rows/s, of "
        f"which the server has {times:.1f} times; {found['same_answers']} of "
        f"{_COMPARED} answers are the same"
      )
  return found


def beside_peft(
  given: argparse.Namespace,
  model: Any,
  told: Sequence[Any],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Rows a second of peft, and how many answers are the server's `told`."""
  command = [given.peft_python, "-m", "benchmarks.load_peft", str(folder)]
  command.append(f"--seconds={min(given.seconds, _PEFT)}")
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  answer = json.loads(done.stdout.splitlines()[-1])
  theirs = [
    model.vocabulary.decode([i for i in ids if i > 1])  # no padding, no end
    for ids in answer["answers"]
  ]
  ours = [one["choices"][0]["text"] for one in told]
  same = sum(x == y for x, y in zip(ours, theirs, strict=False))
  return {
    "peft_rows_per_second": answer["rows_per_second"],
    "same_answers": same,
  }


@contextlib.contextmanager
def serving(
  given: argparse.Namespace, adapters: pathlib.Path
) -> Iterator[Server]:
  """A server that is ready; it is told to stop, and must end by itself."""
  command = [sys.executable, "-m", "hyperjax.main", "serve", "--port=0"]
  command += [f"--model={given.model}", f"--adapters={adapters}"]
  if given.backbone:
    command.append(f"--backbone={given.backbone}")
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  told = process.stdout
  assert told is not None
  try:
    found = re.search(r"http://.*:(\d+)/", told.readline())
    if found is None:
      raise ValueError("the server has not said where it listens")
    server = Server(process, int(found[1]))
    until = time.monotonic() + _READY
    for line in told:
      if line.startswith("ready"):
        print(line, end="", flush=True)
        break
      if time.monotonic() > until:
        raise ValueError(f"the server is not ready: {line}")
    yield server
    process.terminate()
    if process.wait(60) != 0:
      raise ValueError(f"the server ended with status {process.returncode}")
  finally:
    process.kill()
    process.wait()
    told.close()


def write_adapters(server: Server) -> list[str]:
  """Of a rule each, unchecked."""
  names = []
  for rule in range(ADAPTERS):
    rows = list(records.rule_rows(rule, "train"))[:EXAMPLES]
    names.append(f"rule_{rule:03}")
    server.post(
      "/v1/adapters",
      {
        "name": names[-1],
        "check": False,
        "examples": [[row["inputs"], row["targets"]] for row in rows],
      },
    )
  return names


def prompts(names: Sequence[str]) -> list[tuple[str, str]]:
  """Adapter and input, in an order in which neighbours have other adapters."""
  found = []
  for rule, name in enumerate(names):
    rows = list(records.rule_rows(rule, "validation"))[:8]
    found += [(i, name, row["inputs"]) for i, row in enumerate(rows)]
  return [(name, text) for _, name, text in sorted(found)]


def request(body: Any, port: int) -> bytes:
  content = json.dumps(body).encode()
  head = (
    f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Content-Type: application/json\r\n"
    f"Content-Length: {len(content)}\r\n\r\n"
  )
  return head.encode() + content


async def load(
  server: Server, bodies: Sequence[bytes], clients: int, seconds: float
) -> dict[str, Any]:
  """What so many clients met, and by how much the server grew."""
  began = time.perf_counter()
  end = began + seconds
  taken: list[float] = []
  failed: list[str] = []

  async def client(number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    while (start := time.perf_counter()) < end:
      writer.write(bodies[number % len(bodies)])
      status, content = await _answer(reader)
      taken.append(time.perf_counter() - start)
      if status != 200:
        failed.append(content[:200].decode())
      number += clients
    writer.close()
    await writer.wait_closed()

  async def watch() -> tuple[float, float]:
    await asyncio.sleep(_FIRST * seconds)
    first = server.mib
    await asyncio.sleep((1 - _FIRST) * seconds)
    return first, server.mib

  bare = await asyncio.create_subprocess_exec(
    sys.executable, "-c", _BARE.format(seconds=seconds), stdout=subprocess.PIPE
  )
  watching = asyncio.create_task(watch())
  await asyncio.gather(*(client(i) for i in range(clients)))
  first, last = await watching
  late, _ = await bare.communicate()
  p50, p99 = np.percentile(taken, [50, 99])
  return {
    "clients": clients,
    "seconds": seconds,
    "requests": len(taken),
    "requests_per_second": len(taken) / seconds,
    "p50_ms": 1e3 * float(p50),
    "p99_ms": 1e3 * float(p99),
    "bare_p99_ms": 1e3 * float(late),
    "errors": len(failed),
    "first_error": failed[0] if failed else None,
    "mib": last,
    "growth": last / first - 1,
  }


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
  head = await reader.readuntil(b"\r\n\r\n")
  [length] = re.findall(rb"(?i)content-length: *(\d+)", head)
  return int(head[9:12]), await reader.readexactly(int(length))


def export(
  server: Server,
  names: Sequence[str],
  asked: Sequence[tuple[str, str]],
  given: argparse.Namespace,
  folder: pathlib.Path,
) -> Any:
  """The same T5, adapters and prompts, as peft reads them; the model itself."""
  import io
  import zipfile

  from hyperjax import serving as models
  from hyperjax.artifacts import restore
  from hyperjax.interop import hf_write

  folder.mkdir()
  for name in names:
    content = server.get(f"/v1/adapters/{name}/download?form=peft")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
      file.extractall(folder / "adapters")
  model = models.load(given.model, given.backbone)
  named = model.run.record.backbone
  assert named is not None
  source = restore.open_t5(paths.at(given.backbone or named.source))
  hf_write.write_folder(folder / "t5", source)
  rows = [
    {"adapter": name, "ids": model.read(text).ids.tolist()}
    for name, text in asked
  ]
  content = {"rows": rows, "max_tokens": model.lengths.targets}
  (folder / "asked.json").write_text(json.dumps(content))
  return model


def _line(level: dict[str, Any]) -> str:
  return (
    f"{level['clients']:3} clients: {level['requests_per_second']:6.0f} "
    f"requests/s, p50 {level['p50_ms']:.1f} ms, p99 {level['p99_ms']:.1f} ms, "
    f"(2 ms of arithmetic: {level['bare_p99_ms']:.1f}), "
    f"{level['errors']} errors, {level['mib']:.0f} MiB, "
    f"{100 * level['growth']:+.1f}%"
  )


if __name__ == "__main__":
  main()
