"""Targets with options and without in one evaluation, by the run file."""

import dataclasses
import json

import pytest

from hyperjax import adapters, main
from hyperjax.evaluation.few_shot import Evaluator
from hyperjax.evaluation.official import metaicl as official_metaicl
from hyperjax.tasks import metaicl, records
from tests import testing

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("seqio")

CONFIG = dataclasses.replace(testing.CONFIG, vocab_size=96)
SEEDS = (100, 13)
TYPES = {"kind": "classification", "pick": "multi-choice", "say": "free-form"}
OPTIONS = {"kind": [" red", "blue "], "pick": ["one", "two five"], "say": []}
# Of "say": a string, the first of alternatives, any of a list.
OUTPUTS = {
  "kind": [" red", "blue ", " red"],
  "pick": ["one", "two five", "one"],
  "say": ["oslo", "oslo\tparis", ["oslo", "rome"]],
}


def _line(task, number, word):
  return {
    "task": task,
    "input": f"{word} {records.VALUES['city'][number]}",
    "output": OUTPUTS[task][number % 3],
    "options": OPTIONS[task],
  }


def _write(root):
  folder = root / "metaicl"
  (folder / "config" / "tasks").mkdir(parents=True)
  lists = {"train": [], "test": list(TYPES), "unseen_domain_test": ["say"]}
  (folder / "config" / "own.json").write_text(json.dumps(lists))
  for task, task_type in TYPES.items():
    config = {"task_type": task_type, "options": OPTIONS[task] or None}
    path = folder / "config" / "tasks" / f"{task}.json"
    path.write_text(json.dumps(config))
    (folder / "data" / task).mkdir(parents=True)
    for seed in SEEDS:
      for split, count, word in (
        ("train", 16, "alice"),
        ("dev", 1, "bruno"),
        ("test", 3, "carla"),
      ):
        lines = [json.dumps(_line(task, i % 16, word)) for i in range(count)]
        path = folder / "data" / task / f"{task}_16_{seed}_{split}.jsonl"
        path.write_text("\n".join(lines) + "\n")
  return folder


@pytest.fixture
def evaluation(tmp_path, no_configuration):
  """What runs/eval_metaicl.gin describes, of three tasks and two seeds."""
  _write(tmp_path)
  few_shot = "--gin.few_shot.FewShotEvaluation"
  draws = (
    "@seed_100/seqio_store.SeqioTasks(), @seed_13/seqio_store.SeqioTasks()"
  )
  run, _ = main.build(
    "eval",
    ["adapters/prefix.gin", "runs/eval_metaicl.gin"],
    overrides=[
      f"--gin.DATA_DIR={tmp_path}",
      "--gin.CHECKPOINT_PATH=unused",
      f"--gin.CACHE_DIR={tmp_path / 'cache'}",
      "--gin.METAICL_SETTING=own",
      f"--gin.metaicl.MetaICL.vocabulary={records.VOCABULARY}",
      "--gin.metaicl.MetaICL.extra_ids=0",
      f"--gin.metaicl.MetaICL.seeds={SEEDS}",
      f"--gin.figures.MetaICL.seeds={SEEDS}",
      f"{few_shot}.demonstrations=({draws})",
      f"{few_shot}.rows_per_context=2",
      f'{few_shot}.controls=("right",)',
      f"{few_shot}.contexts_per_batch=4",
      '--gin.TASK_FEATURE_LENGTHS={"demonstrations": 48, "inputs": 6, '
      '"targets": 4}',
    ],
  )
  return run.evaluations[0]


def _answers(evaluation):
  of_trainer = testing.make_trainer(
    testing.hypertuning(adapters.PrefixSpec(3, key_stddev=4.0), CONFIG)
  )
  state = of_trainer.init(0)
  evaluator = Evaluator(evaluation, of_trainer.problem, of_trainer.layout)
  return evaluator.run(state.params, state.frozen)


def test_tasks_with_options_are_ranked_and_others_decoded(evaluation, tmp_path):
  answers = _answers(evaluation)
  assert len(answers) == 3 * len(SEEDS) * 3
  for answer in answers:
    task = answer.task.removeprefix("metaicl_")
    assert answer.task_type == TYPES[task]
    if task == "say":
      assert not answer.rankings and answer.choices is None
    else:
      assert answer.predictions["right"] in OPTIONS[task]
      assert answer.rankings.keys() == {"right"}
  assert [x.references for x in answers if x.task == "metaicl_say"][:3] == [
    ["oslo"],
    ["oslo"],
    ["oslo", "rome"],
  ]
  # The same predictions in test.py's files get the same figures.
  for answer in answers:
    seed = SEEDS[answer.draw]
    task = answer.task.removeprefix("metaicl_")
    name = f"{task}-test-direct-k=16-s={seed}.txt"
    path = tmp_path / "out" / name
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as file:
      file.write(answer.predictions["right"] + "\n")
  scored = official_metaicl.score_files(
    [tmp_path / "out"], tmp_path / "metaicl", "own"
  )
  own = evaluation.official(answers)["right"]
  assert own.overall == pytest.approx(scored.overall)
  for group in ("tasks", "free-form"):
    named = {
      metaicl.task_name(name): row for name, row in scored.groups[group].items()
    }
    assert named.keys() == own.groups[group].keys()
    for name, row in named.items():
      assert own.groups[group][name] == pytest.approx(row), name
  assert list(scored.groups["free-form"]) == ["say"]
  assert own.groups["domains"]["unseen"] == pytest.approx(
    scored.groups["domains"]["unseen"]
  )


def test_a_free_form_task_is_refused_where_nothing_says_how_to_decode(
  evaluation,
):
  ranked = dataclasses.replace(evaluation.decoder, free_form=None)
  with pytest.raises(
    ValueError, match=r"metaicl_say, row 0: it has no choices to rank"
  ):
    _answers(dataclasses.replace(evaluation, decoder=ranked))
