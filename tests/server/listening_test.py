"""A server as a process: by its command, on two devices, until it is told to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from tests import conftest, served_example

pytestmark = pytest.mark.slow

PAIRS = [list(pair) for pair in served_example.pairs(served_example.RULES[0])]
TOKEN = "a-token-of-some-length"


class Running:
  """A started server."""

  def __init__(self, run, folder):
    tokens = folder / "tokens"
    tokens.write_text(f"other\n{TOKEN}\n")
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2")
    command = [sys.executable, "-m", "hyperjax.main", "serve", f"--model={run}"]
    command += [f"--adapters={folder / 'adapters'}", f"--token_file={tokens}"]
    self.process = subprocess.Popen(
      [*command, "--port=0", "--batch_size=4"],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      cwd=conftest.ROOT,
      env=os.environ | {"XLA_FLAGS": flags},
    )
    self.lines = [self.process.stdout.readline()]
    self.address = re.search(r"http://[\d.]+:\d+", self.lines[0])[0]
    self.first_health = self.ask("/healthz")
    while not self.lines[-1].startswith("ready"):
      self.lines.append(self.process.stdout.readline())
      assert self.lines[-1], self.lines

  def ask(self, path, body=None):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    content = None
    if body is not None:
      content = json.dumps(body).encode()
      headers["Content-Type"] = "application/json"
    request = urllib.request.Request(self.address + path, content, headers)
    try:
      with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
      return error.code, json.load(error)


@pytest.fixture(scope="module")
def server(served, tmp_path_factory):
  running = Running(served / "lora", tmp_path_factory.mktemp("serving"))
  yield running
  running.process.kill()
  running.process.wait()
  running.process.stdout.close()


def test_it_listens_before_it_is_ready_and_says_so(server):
  status, told = server.first_health
  assert status == 503 and told["status"].startswith(("starting", "compiling"))
  assert server.ask("/healthz") == (200, {"status": "ready"})


def test_openais_own_client_is_answered(server):
  openai = pytest.importorskip("openai")
  body = {"name": "mine", "examples": PAIRS, "check": True}
  status, made = server.ask("/v1/adapters", body)
  assert status == 201 and made["check"]["held_out"] == len(PAIRS)
  client = openai.OpenAI(base_url=f"{server.address}/v1", api_key=TOKEN)
  assert [model.id for model in client.models.list()] == ["t5", "mine"]
  asked = {"model": "mine", "prompt": served_example.questions()[:3]}
  whole = client.completions.create(**asked, logprobs=1, max_tokens=5)
  told = ["", "", ""]
  for event in client.completions.create(**asked, max_tokens=5, stream=True):
    for choice in event.choices:
      told[choice.index] += choice.text
  assert [choice.text for choice in whole.choices] == told
  assert all(choice.logprobs.token_logprobs for choice in whole.choices)
  with pytest.raises(openai.NotFoundError, match="no adapter 'nobody'"):
    client.completions.create(model="nobody", prompt="x")
  stranger = openai.OpenAI(base_url=f"{server.address}/v1", api_key="x")
  with pytest.raises(openai.AuthenticationError, match="--token_file"):
    stranger.models.list()


def test_told_to_stop_it_answers_what_it_took_and_ends(server):
  """The last test of this server."""
  found = []
  body = {"model": "t5", "prompt": served_example.questions()[0]}

  def ask():
    try:
      while True:
        found.append(server.ask("/v1/completions", body)[0])
    except (urllib.error.URLError, ConnectionError) as error:
      found.append(error)

  clients = [threading.Thread(target=ask) for _ in range(4)]
  for client in clients:
    client.start()
  until = time.monotonic() + 30
  while len(found) < 8 and time.monotonic() < until:
    time.sleep(0.01)
  server.process.send_signal(signal.SIGTERM)
  assert server.process.wait(60) == 0
  for client in clients:
    client.join()
  # Each client was answered until it was told that nobody listens any more.
  assert {x for x in found if isinstance(x, int)} <= {200, 503}
  refused = [x for x in found if not isinstance(x, int)]
  assert len(refused) == len(clients)
  assert all("refused" in str(x) or "reset" in str(x) for x in refused), refused
  assert "Traceback" not in server.process.stdout.read()
