"""What the routes answer: the model's own answers, in the shape of OpenAI's."""

import concurrent.futures
import io
import json
import zipfile

import numpy as np
import pytest

from hyperjax.artifacts import adapter_folder
from hyperjax.serving import examples, verdict
from tests import served_example

pytestmark = pytest.mark.slow  # programs are compiled

ASKED = served_example.questions()
PAIRS = [list(pair) for pair in served_example.pairs(served_example.RULES[0])]


@pytest.fixture(scope="module")
def adapters(service, named):
  return [adapter_folder.read(service.store.folder / name) for name in named]


def ask(client, **body):
  answer = client.post("/v1/completions", json=body)
  assert answer.status_code == 200, answer.text
  return answer.json()


def texts(answer):
  return [choice["text"] for choice in answer["choices"]]


def test_answers_are_those_of_predict(client, service, named, adapters):
  """Under both adapters and none, of a request of several prompts."""
  found = [texts(ask(client, model=x, prompt=ASKED[:4])) for x in named]
  found.append(texts(ask(client, model="t5", prompt=ASKED[:4])))
  wanted = [
    service.model.predict(ASKED[:4], adapter) for adapter in [*adapters, None]
  ]
  assert found == wanted
  assert len({tuple(x) for x in found}) == 3  # adapters matter


def test_requests_that_meet_in_a_batch_are_answered_as_alone(client, named):
  wanted = {
    (name, text): texts(ask(client, model=name, prompt=text))
    for name in named
    for text in ASKED[:6]
  }
  with concurrent.futures.ThreadPoolExecutor(12) as pool:
    found = pool.map(
      lambda x: texts(ask(client, model=x[0], prompt=x[1])), wanted
    )
    assert dict(zip(wanted, found, strict=True)) == wanted


def test_log_probabilities_are_those_of_the_scores(
  client, service, named, adapters
):
  """A choice's tokens, and all but what its end has, sum up to the answer's."""
  answer = ask(client, model=named[0], prompt=ASKED[0], logprobs=2)
  [choice] = answer["choices"]
  told = choice["logprobs"]
  assert "".join(told["tokens"]) == choice["text"]
  ids = service.model.vocabulary.encode(choice["text"])
  [[wanted]] = service.model.score([ASKED[0]], adapters[:1], [[ids]])
  assert sum(told["token_logprobs"]) == pytest.approx(wanted, abs=1e-4)
  for token, value, top in zip(
    told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
  ):
    assert len(top) <= 2 and top[token] == value == max(top.values())


def test_a_stop_ends_an_answer_before_it(client, named):
  [whole] = texts(ask(client, model=named[0], prompt=ASKED[0]))
  words = whole.split()
  answer = ask(client, model=named[0], prompt=ASKED[0], stop=[words[1], "%"])
  assert texts(answer) == [whole[: whole.index(words[1])]]
  assert answer["choices"][0]["finish_reason"] == "stop"


def test_max_tokens_cut_an_answer(client, named):
  whole = ask(client, model=named[0], prompt=ASKED[0])
  cut = ask(client, model=named[0], prompt=ASKED[0], max_tokens=2)
  assert cut["choices"][0]["finish_reason"] == "length"
  assert cut["usage"]["completion_tokens"] == 2
  assert texts(whole)[0].startswith(texts(cut)[0]) and texts(cut) != texts(
    whole
  )


def test_what_is_drawn_depends_on_the_seed_alone(client, named):
  """Not on the requests beside it; answers of one request differ."""
  body = {"model": named[0], "prompt": ASKED[0], "temperature": 5.0}
  first = texts(ask(client, **body, seed=3, n=3))
  assert len(set(first)) > 1
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    seeds = [3, 4, 3, 5, 3, 6]
    every = list(
      pool.map(lambda s: texts(ask(client, **body, seed=s, n=3)), seeds)
    )
  assert [x == first for x in every] == [seed == 3 for seed in seeds]


def test_a_stream_tells_the_same_piece_by_piece(client, named):
  wanted = ask(client, model=named[0], prompt=ASKED[:2])
  body = {
    "model": named[0],
    "prompt": ASKED[:2],
    "stream": True,
    "stream_options": {"include_usage": True},
  }
  with client.stream("POST", "/v1/completions", json=body) as answer:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.iter_lines() if line]
  assert lines.pop() == "data: [DONE]"
  events = [json.loads(line.removeprefix("data: ")) for line in lines]
  assert events.pop()["usage"] == wanted["usage"]
  told = ["", ""]
  for event in events:
    [choice] = event["choices"]
    told[choice["index"]] += choice["text"]
  assert told == texts(wanted)
  assert len(events) > 2 + 2  # pieces before both ends


def test_examples_go_before_the_prompt_of_the_t5(client, service):
  [found] = texts(ask(client, model="t5", prompt=ASKED[0], examples=PAIRS))
  shown = service.model.fit(served_example.pairs(served_example.RULES[0]))
  ids = examples.encode(service.model.vocabulary, ASKED[0])
  whole = np.concatenate([shown.tokens, np.asarray(ids, np.int32)])
  assert [found] == service.model.answer([whole], [None]).texts
  assert [found] != texts(ask(client, model="t5", prompt=ASKED[0]))


def test_an_adapter_comes_with_the_check_of_its_examples(client, service):
  found = client.post("/v1/adapters", json={"examples": PAIRS})
  assert found.status_code == 201
  own = found.json()
  assert not own["is_kept"] and own["examples"]["read"] == len(PAIRS)
  wanted = verdict.check(service.model, [tuple(pair) for pair in PAIRS])
  told, wanted = own["check"], wanted.as_json()
  assert [x["adapter"] for x in own["answers"]]
  assert told["sentence"] == wanted["sentence"]
  for way, column in wanted["columns"].items():
    assert told["columns"][way]["scores"] == column["scores"]
    np.testing.assert_allclose(
      told["columns"][way]["log_likelihoods"],
      column["log_likelihoods"],
      rtol=1e-4,
      atol=1e-4,
    )


def test_a_draft_is_kept_under_a_name_and_then_removed(client, service):
  body = {"examples": PAIRS, "check": False}
  draft = client.post("/v1/adapters", json=body).json()["id"]
  kept = client.post(f"/v1/adapters/{draft}/keep", json={"name": "mine"})
  assert kept.status_code == 201
  wanted = service.model.adapt([tuple(pair) for pair in PAIRS])
  assert adapter_folder.read(service.store.folder / "mine").identity == (
    wanted.identity
  )
  assert client.get(f"/v1/adapters/{draft}").status_code == 404
  again = client.post("/v1/adapters", json=body | {"name": "mine"})
  assert again.status_code == 409
  assert client.delete("/v1/adapters/mine").json()["deleted"]
  assert not (service.store.folder / "mine").exists()
  assert client.get("/v1/models/mine").status_code == 404


@pytest.mark.parametrize(
  ("form", "file"),
  [("hyperjax", "adapter.json"), ("peft", "adapter_config.json")],
)
def test_an_adapter_is_downloaded_as_a_folder(
  client, named, tmp_path, form, file
):
  got = client.get(f"/v1/adapters/{named[0]}/download", params={"form": form})
  with zipfile.ZipFile(io.BytesIO(got.content)) as zipped:
    zipped.extractall(tmp_path)
  assert (tmp_path / named[0] / file).is_file()
  if form == "hyperjax":
    assert adapter_folder.read(tmp_path / named[0]).arrays is not None


def test_models_are_the_t5_and_the_folders_adapters(client, named):
  found = {
    x["id"]: x["parent"] for x in client.get("/v1/models").json()["data"]
  }
  assert found == {"t5": None} | dict.fromkeys(named, "t5")


def test_nothing_is_compiled_once_it_is_ready(client, service, named):
  """Whatever is asked: this comes after all of the above, and asks once more."""
  ready = service.programs.num_compiled
  before = service.num_compiled
  for count in (1, 2, 3, 4):
    ask(client, model=named[0], prompt=ASKED[:count], logprobs=1, temperature=1)
  client.post("/v1/adapters", json={"examples": PAIRS[:2]})
  assert service.programs.num_compiled == ready
  assert service.num_compiled == before
