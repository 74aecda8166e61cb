"""T0's held-out data sets scored together, by the run file, from fake files."""

import dataclasses

import pytest

from hyperjax import adapters, main
from hyperjax.evaluation.few_shot import Evaluator
from hyperjax.tasks import records
from tests import testing

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("seqio")

from tests.tasks import p3_folder  # noqa: E402

CONFIG = dataclasses.replace(testing.CONFIG, vocab_size=96)
LINES = [
  p3_folder.line("anli", None, None, "BASE", 162_865),
  p3_folder.line("super_glue", "rte", None, "BASE", 2_490),
  p3_folder.line("story_cloze", "2016", None, "BASE", None),
  p3_folder.line("imdb", None, "BASE", None, 25_000),
]
# The names of the splits to draw from and to score: ANLI's own in a folder that
# has kept them; StoryCloze has no training split.
SPLITS = {
  "anli_can_we_infer_r1": ("train", "validation"),
  "anli_can_we_infer_r2": ("train_r2", "dev_r2"),
  "super_glue_rte_must_be_true": ("train", "validation"),
  "story_cloze_2016_Answer": ("test", "validation"),
}
CHOICES = {
  "anli_can_we_infer_r1": ["red", "green", "blue"],
  "anli_can_we_infer_r2": ["red", "green", "blue"],
  "super_glue_rte_must_be_true": ["one", "two"],
  "story_cloze_2016_Answer": ["paris", "rome and oslo"],
}
SHOWN = ["alice", "bruno", "carla"]
ASKED = ["david", "emma", "alice"]  # one of them is shown elsewhere


def _subset(data, name):
  """Three rows to draw from, and three examples to score."""
  pool, scored = SPLITS[name]
  choices = CHOICES[name]
  rows = [
    p3_folder.pair(word, choices[0], answer_choices=choices) for word in SHOWN
  ]
  p3_folder.write(data / name, p3_folder.WITH_CHOICES, rows, pool)
  rows = [
    p3_folder.choice(example, i, word, choice, i == example % len(choices))
    for example, word in enumerate(ASKED)
    for i, choice in enumerate(choices)
  ]
  folder = data / f"{name}_score_eval"
  p3_folder.write(folder, p3_folder.SCORED, rows, scored)


@pytest.fixture
def evaluation(tmp_path, no_configuration):
  """What runs/eval_p3.gin describes, of a folder with four data sets."""
  for name in SPLITS:
    _subset(tmp_path / "p3" / "data", name)
  p3_folder.provider(tmp_path, LINES)
  few_shot = "--gin.few_shot.FewShotEvaluation"
  run, _ = main.build(
    "eval",
    ["adapters/prefix.gin", "runs/eval_p3.gin"],
    overrides=[
      f"--gin.DATA_DIR={tmp_path}",
      "--gin.CHECKPOINT_PATH=unused",
      f"--gin.CACHE_DIR={tmp_path / 'cache'}",
      f"--gin.p3.P3.vocabulary={records.VOCABULARY}",
      "--gin.p3.P3.extra_ids=0",
      '--gin.TASK_FEATURE_LENGTHS={"demonstrations": 24, "inputs": 6, '
      '"targets": 6}',
      f"{few_shot}.rows_per_context=3",
      f"{few_shot}.contexts_per_batch=4",
    ],
  )
  return run.evaluations[0]


def test_anlis_rounds_and_storycloze_are_scored_with_the_others(
  evaluation, caplog
):
  of_trainer = testing.make_trainer(
    testing.hypertuning(adapters.PrefixSpec(3, key_stddev=4.0), CONFIG)
  )
  state = of_trainer.init(0)
  evaluator = Evaluator(evaluation, of_trainer.problem, of_trainer.layout)
  answers = evaluator.run(state.params, state.frozen)
  assert (
    "1 scored subsets draw demonstrations from the test split: "
    "story_cloze_2016_Answer_score_eval" in caplog.text
  )
  by_task = {}
  for answer in answers:
    name = answer.task.removeprefix("p3_").removesuffix("_score_eval")
    assert answer.choices == CHOICES[name]
    # A row that is asked is nobody's demonstration, wherever it stands.
    shown = [question for question, _ in answer.demonstrations]
    assert sorted(shown) == ["bruno", "carla"]
    assert {text for _, text in answer.demonstrations} == {CHOICES[name][0]}
    scores = answer.rankings["right"]["log_likelihoods"]
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    by_task.setdefault(name, []).append(best == answer.row % len(CHOICES[name]))
  report = evaluation.official(answers)["right"]
  assert {name: len(hits) for name, hits in by_task.items()} == dict.fromkeys(
    SPLITS, 3
  )
  assert report.groups["data sets"].keys() == {
    "anli_r1",
    "anli_r2",
    "super_glue_rte",
    "story_cloze_2016",
  }
  for name, hits in by_task.items():
    figures = report.groups["templates"][f"{name}_score_eval"]
    assert figures["accuracy"] == pytest.approx(100 * sum(hits) / 3)
  assert report.overall["mean"] == pytest.approx(
    100 * sum(map(sum, by_task.values())) / 12
  )
