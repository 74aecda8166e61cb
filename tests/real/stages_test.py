"""Both stages and the evaluation on real text and real tasks, by command.

The commands are those of docs/training.md, with a tiny T5 and a few steps.
"""

import json

import gin
import pytest

from hyperjax import main, metrics
from hyperjax.data import vocabulary
from hyperjax.evaluation import answering
from tests import conftest

pytestmark = [
  pytest.mark.seqio,
  pytest.mark.slow,
  pytest.mark.usefixtures("no_configuration"),
]

SMALL = [
  "--gin_file=models/t5_1_1_tiny.gin",
  "--gin.TRAIN_STEPS=3",
  "--gin.BATCH_SIZE=8",
  "--gin.EVAL_STEPS=2",
]
LONGER = (
  '--gin.TASK_FEATURE_LENGTHS={"demonstrations": 256, "inputs": 128, '
  '"targets": 128}'
)
SHORT = (
  '--gin.TASK_FEATURE_LENGTHS={"demonstrations": 256, "inputs": 128, '
  '"targets": 16}'
)


# Fewer programs to compile where another test shows the rest.
QUICK = "--gin.EVAL_PERIOD=None"
ONLY_RIGHT = '--gin.few_shot.FewShotEvaluation.controls=("right",)'


def _run(*arguments):
  """A command as in a process of its own: nothing is registered yet."""
  conftest.forget_tasks()
  gin.clear_config(clear_constants=True)
  assert main.main(list(arguments)) == 0


@pytest.fixture(scope="module")
def places(data_dir, tmp_path_factory):
  """Where tokens are stored, and a tiny T5 pretrained on real text."""
  folder = tmp_path_factory.mktemp("real")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("HYPERJAX_CACHE", str(folder / "tokens"))
    _run(
      "train",
      "--gin_file=runs/pretrain_c4.gin",
      *SMALL,
      f"--gin.DATA_DIR={data_dir}",
      '--gin.TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 64}',
      f"--gin.MODEL_DIR={folder / 'backbone'}",
    )
    _assert_trained(folder / "backbone")
    yield folder


def _assert_trained(folder):
  lines = metrics.read(folder / metrics.METRICS)
  # 32,128 ids, nothing learnt yet: about the logarithm of that.
  assert 5 < next(x["loss"] for x in lines if "loss" in x) < 20


def _train(run, kind, initial, folder, *options):
  _run(
    "train",
    f"--gin_file=adapters/{kind}.gin",
    f"--gin_file=runs/{run}.gin",
    *SMALL,
    *options,
    f"--gin.INITIAL_CHECKPOINT_PATH={initial}",
    f"--gin.MODEL_DIR={folder}",
  )
  _assert_trained(folder)


def _evaluate(run, kind, folder, *options):
  """Results and answers of some tasks, a few targets of each."""
  _run(
    "eval",
    f"--gin_file=adapters/{kind}.gin",
    f"--gin_file=runs/{run}.gin",
    "--gin_file=models/t5_1_1_tiny.gin",
    *options,
    "--gin.few_shot.FewShotEvaluation.max_tasks=3",
    "--gin.few_shot.FewShotEvaluation.max_targets=4",
    "--gin.few_shot.FewShotEvaluation.contexts_per_batch=8",
    "--gin.few_shot.FewShotEvaluation.rows_per_context=4",
    f"--gin.CHECKPOINT_PATH={folder}",
  )
  evaluated = folder / "inference_eval"
  (found,) = evaluated.glob("*-results.json")
  (predicted,) = evaluated.glob("*-predictions.jsonl")
  answers = [json.loads(line) for line in predicted.read_text().splitlines()]
  results = json.loads(found.read_text())
  assert results["num_tasks"] == 3 and results["step"] == 3
  return results, answers


def test_text_then_tasks_then_scores_of_unseen_tasks(
  data_dir, places, tmp_path, capsys
):
  kind = "prefix"
  data = f"--gin.DATA_DIR={data_dir}"
  lists = "--gin.superni.SuperNaturalInstructions.split_list=small"
  stage1, stage2 = tmp_path / "stage1", tmp_path / "stage2"
  _train("hyperpretrain_c4", kind, places / "backbone", stage1, data)
  _train("mtf_sni", kind, stage1, stage2, data, lists, SHORT)
  results, answers = _evaluate("eval_sni", kind, stage2, data, lists, SHORT)
  assert len(results["categories"]) >= 1
  rouge = results["scores"]["right"]["rouge_l"]
  official = results["official"]["right"]["overall"]
  assert official["rougeL"] == pytest.approx(100 * rouge, abs=1e-4)
  assert len(answers) == 12
  for answer in answers:
    assert answer["predictions"].keys() == set(answering.ORDINARY)
  split = data_dir / "sni" / "splits" / "small" / "test_tasks.txt"
  files = {
    "sni_" + name.replace("-", "_"): data_dir / "sni/tasks" / f"{name}.json"
    for name in split.read_text().split()
  }
  for answer in answers:
    task = json.loads(files[answer["task"]].read_text())
    instance = task["Instances"][answer["row"]]
    assert answer["references"] == instance["output"]
    shown = [pair[0] for pair in answer["demonstrations"]]
    positive = [x["input"].strip() for x in task["Positive Examples"]]
    assert shown == positive[: len(shown)] and 1 <= len(shown) <= 2
  said = capsys.readouterr().out
  assert "rouge_l" in said and "step 3/3" in said


def test_metaicl_is_trained_on_and_its_targets_scored_for_five_seeds(
  data_dir, places, tmp_path
):
  options = (
    f"--gin.DATA_DIR={data_dir}",
    "--gin.METAICL_SETTING=small_hr_to_lr",
    LONGER,
  )
  folder = tmp_path / "run"
  _train("mtf_metaicl", "prefix", places / "backbone", folder, *options, QUICK)
  results, answers = _evaluate(
    "eval_metaicl", "prefix", folder, *options, ONLY_RIGHT
  )
  assert len(answers) == 3 * 5 * 4  # tasks, seeds, targets
  official = results["official"]["right"]
  assert official["overall"]["tasks"] == 3
  for name, figures in official["tasks"].items():
    assert figures["seeds"] == 5 and figures["predictions"] == 20
    seeds = official["seeds"][name]
    assert list(seeds) == ["13", "21", "42", "87", "100"]
    assert figures["worst"] == min(seeds.values())
  folder = data_dir / "metaicl" / "data"
  own = vocabulary.SentencePiece(str(data_dir / "vocab/t5/spiece.model"))
  for answer in answers:
    seed = (100, 13, 21, 42, 87)[answer["draw"]]
    (path,) = (
      path
      for path in folder.glob(f"*/*_16_{seed}_train.jsonl")
      if _seqio_name(path.parent.name) == answer["task"]
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    # Stored without their text, demonstrations are shown as their ids say.
    shots = [
      [own.decode(own.encode(line[name])) for name in ("input", "output")]
      for line in lines
    ]
    shown = answer["demonstrations"]
    # In the order of the file, but for those that are too long.
    rest = iter(shots)
    assert shown and all(pair in rest for pair in shown)
    assert answer["predictions"]["right"] in answer["choices"]


def _seqio_name(task):
  from hyperjax.tasks import metaicl

  return metaicl.task_name(task)


def test_p3_is_trained_on_and_held_out_tasks_are_ranked(
  data_dir, places, tmp_path
):
  options = (f"--gin.DATA_DIR={data_dir}", LONGER)
  folder = tmp_path / "run"
  _train("mtf_p3", "lora", places / "backbone", folder, *options, QUICK)
  results, answers = _evaluate("eval_p3", "lora", folder, *options, ONLY_RIGHT)
  assert len(answers) == 3 * 4
  official = results["official"]["right"]
  by_hand = {}
  for answer in answers:
    ranking = answer["rankings"]["right"]
    scores = ranking["log_likelihoods"]
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    own = by_hand.setdefault(answer["task"].removeprefix("p3_"), [])
    own.append(answer["is_correct"][best])
  for task, hits in by_hand.items():
    figures = official["templates"][task]
    assert figures["accuracy"] == pytest.approx(100 * sum(hits) / len(hits))
