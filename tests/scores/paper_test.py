"""docs/paper.md: its commands are those of its rows, and its rows are found."""

import dataclasses
import re
import shlex
import string

import gin
import pytest

from hyperjax import adapters, main
from hyperjax.artifacts import config_json, typed_json
from hyperjax.models import problems
from hyperjax.scores import expectations, paper
from tests import conftest, t5_outline

PAGE = conftest.ROOT / "docs" / "paper.md"
KINDS = {"prefix": adapters.PrefixSpec, "lora": adapters.LoraSpec}
# Problem, and what it says of itself.
TRAINED = {
  "hypermodel": (problems.HyperTuning, {"train_backbone": False}),
  "hypermodel and T5": (problems.HyperTuning, {"train_backbone": True}),
  "one adapter": (problems.AdapterFineTuning, {"num_tasks": 1}),
  "T5": (problems.FullFineTuning, {"reads_demonstrations": False}),
  "T5 with examples": (problems.FullFineTuning, {"reads_demonstrations": True}),
}
ROWS = paper.rows()
STAGE_1 = [row for row in paper._cells() if "weights trained" in row]

pytestmark = pytest.mark.usefixtures("no_configuration")


@pytest.fixture(scope="module")
def t5s(tmp_path_factory):
  folder = tmp_path_factory.mktemp("t5")
  return {
    name: t5_outline.write(folder / name, name) for name in ("large", "xl")
  }


def _commands(row):
  """The row's: what `$T5` and `$KIND` stand for is in its cells."""
  text = re.sub(r"\\\n\s*", " ", PAGE.read_text())
  found = {}
  for line in re.findall(r"^    (hyperjax .*)$", text, re.MULTILINE):
    line = string.Template(line).substitute(T5=row["T5"], KIND=row["adapters"])
    _, command, *options = shlex.split(line)
    given = dict(option.removeprefix("--").split("=", 1) for option in options)
    own = given.get("gin.MODEL_DIR") or given.get("gin.CHECKPOINT_PATH")
    if own == f"/runs/{row['run']}":
      assert command not in found, "two commands of one row"
      found[command] = [command, *options]
  return found


def _built(words, t5):
  """The run of a command that begins with `t5`; what it says it begins with."""
  initial = [x.split("=", 1)[1] for x in words if "INITIAL_CHECKPOINT" in x]
  words = [
    f"{word.split('=')[0]}={t5}" if "INITIAL_CHECKPOINT" in word else word
    for word in words
  ]
  gin.clear_config(clear_constants=True)
  run, _ = main.build_parsed(*main.parse(words))
  return run, *initial


def _check_trained(row, words, t5):
  run, initial = _built(words, t5)
  kind, fields = TRAINED[row["trained"]]
  problem = run.problem
  assert type(problem) is kind
  assert {name: getattr(problem, name) for name in fields} == fields
  width, feed_forward, heads, layers = t5_outline.SIZES[row["T5"]]
  sizes = problem.backbone
  assert (sizes.emb_dim, sizes.mlp_dim) == (width, feed_forward)
  assert (sizes.num_heads, sizes.num_encoder_layers) == (heads, layers)
  if row["adapters"] == "none":
    assert not problem.has_adapters
  else:
    assert type(problem.adapters) is KINDS[row["adapters"]]
  return run, initial


@pytest.mark.parametrize("row", STAGE_1, ids=lambda row: row["run"])
def test_a_row_of_stage_1_has_the_command_that_trains_it(row, t5s):
  run, initial = _check_trained(row, _commands(row)["train"], t5s[row["T5"]])
  assert initial == f"/models/t5-{row['T5']}-lm-adapt"
  assert run.data.tasks.mixture_or_task == "c4"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["run"])
def test_a_row_has_commands_that_train_and_score_what_it_says(row, t5s):
  commands = _commands(row)
  run, initial = _check_trained(row, commands["train"], t5s[row["T5"]])
  if "hypermodel" in row["trained"]:
    before = f"{row['T5']}_{row['adapters']}"
    assert initial == f"/runs/{before}"
    assert before in [each["run"] for each in STAGE_1]
  else:
    assert initial == f"/models/t5-{row['T5']}-lm-adapt"
  record = config_json.problem_record(run.problem)
  assert [
    x for x in ROWS if paper.is_of(x, record) and x["tasks"] == row["tasks"]
  ] == [row]
  scored, *_ = _built(commands["eval"], None)
  (evaluation,) = scored.evaluations
  assert evaluation.targets.mixture_or_task == row["tasks"]
  assert evaluation.num_demonstrations == int(row["examples"])
  readers = [row["reads the Definition"]] if row["reads the Definition"] else []
  assert list(run.data.instruction_readers) == readers
  assert list(evaluation.instruction_readers or readers) == readers
  asked = dataclasses.replace(
    evaluation,
    feature_lengths=run.data.feature_lengths,
    instruction_readers=run.data.instruction_readers,
  )
  results = {"step": 1, "model": typed_json.dump(record), **asked.describe()}
  assert paper.expected(results) == paper._figures(row)


def test_means_are_those_of_their_eight_data_sets():
  """The table rounds each of the eight, and their mean."""
  means = []
  for row in ROWS:
    figures = paper._figures(row)
    if row["tasks"] == "p3_t0_eval":
      mean = figures.pop("mean_anli_as_one")["value"]
      means.append(mean)
      own = [given["value"] for given in figures.values()]
      assert len(own) == 8
      assert mean == pytest.approx(sum(own) / 8, abs=0.1001)
  assert means == [54.6, 53.3, 59.6, 56.4, 55.6, 54.8, 55.4, 50.6]


RESULTS = {
  "step": 10_000,
  "model": {
    "kind": "HyperTuning",
    "backbone": {
      "kind": "T5Config",
      "emb_dim": 2048,
      "mlp_dim": 5120,
      "num_heads": 32,
      "num_encoder_layers": 24,
    },
    "adapters": {"kind": "LoraSpec", "rank": 16},
    "train_backbone": False,
  },
  "settings": {
    "targets": {"mixture_or_task": "sni_test", "split": "test"},
    "num_demonstrations": 2,
    "instruction_readers": ["hypermodel"],
  },
}


def test_an_evaluation_is_held_against_its_row():
  likely = {"source": "quoted by HyperLoRA", "certainty": "likely"}
  assert expectations.of_results(RESULTS) == {
    "rouge_l": {"value": 45.0, **likely}
  }


def test_figures_of_ones_own_stand_before_the_papers():
  own = {"rouge_l": {"value": 1.0, "source": "mine", "certainty": "known"}}
  assert expectations.of_results(RESULTS | {"expected": own}) == own


@pytest.mark.parametrize(
  "part, change",
  [
    ("model", {"adapters": {"kind": "PrefixSpec"}, "train_backbone": True}),
    ("model", {"kind": "AdapterFineTuning", "num_tasks": 1}),
    ("model", {"backbone": RESULTS["model"]["backbone"] | {"mlp_dim": 16384}}),
    ("settings", {"num_demonstrations": 0}),
    ("settings", {"instruction_readers": []}),
    ("settings", {"targets": {"mixture_or_task": "sni_train"}}),
  ],
)
def test_no_other_evaluation_is(part, change):
  results = RESULTS | {part: RESULTS[part] | change}
  assert expectations.of_results(results) == {}


def test_a_t5_that_was_not_trained_has_no_row():
  assert expectations.of_results(RESULTS | {"step": None}) == {}


def test_results_of_earlier_versions_have_only_their_own():
  assert expectations.of_results({"settings": RESULTS["settings"]}) == {}


def test_the_package_has_the_page():
  assert paper.PAGE.read_text() == PAGE.read_text()
