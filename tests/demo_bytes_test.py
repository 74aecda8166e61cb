"""The demo by bytes (`make demo TOKENIZER=bytes`), of two steps a stage."""

import json

import pytest

from hyperjax import main
from tests import conftest

STAGES = ("pretrain", "hyperpretrain", "multitask")
EVALUATION = "few_shot.FewShotEvaluation"
RULES = "records_rule_000"
UNWATCHED = ("--gin.EVALUATIONS=()", "--gin.EVAL_PERIOD=None")


def _run(command, stage, *given):
  import gin

  gin.clear_config(clear_constants=True)
  file = f"--gin_file=runs/demo_bytes_{stage}.gin"
  kind = [] if stage == "pretrain" else ["--gin_file=adapters/prefix.gin"]
  assert main.main([command, *kind, file, *given]) == 0


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """Folders of the stages, one in the other's place."""
  folder = tmp_path_factory.mktemp("bytes")
  cached = f"--gin.CACHE_DIR={str(folder / 'tokens')!r}"
  before = []
  for stage in STAGES:
    _run(
      *("train", stage, cached, *before, "--gin.TRAIN_STEPS=2"),
      *(UNWATCHED if stage == "multitask" else ()),
      f"--gin.MODEL_DIR={str(folder / stage)!r}",
    )
    before = [f"--gin.INITIAL_CHECKPOINT_PATH={str(folder / stage)!r}"]
  _run(
    *("eval", "eval", cached),
    f"--gin.CHECKPOINT_PATH={str(folder / 'multitask')!r}",
    f"--gin.EVALUATIONS=(@unseen/{EVALUATION}(),)",
    f"--gin.unseen/seqio_store.SeqioTasks.mixture_or_task={RULES!r}",
  )
  # Others' records are of words, under the same names.
  conftest.forget_tasks()
  return folder


@pytest.mark.slow
@pytest.mark.seqio
def test_each_stage_goes_on_from_the_one_before(done):
  for stage in STAGES:
    lines = (done / stage / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2
  record = json.loads((done / "multitask" / "run.json").read_text())
  assert str(done / "hyperpretrain") in json.dumps(record)


@pytest.mark.slow
@pytest.mark.seqio
def test_records_are_asked_and_answered_in_bytes(done):
  folder = done / "multitask" / "inference_eval"
  lines = (folder / "unseen-predictions.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert {row["task"] for row in rows} == {RULES}
  results = json.loads((folder / "unseen-results.json").read_text())
  assert results["intervals"].keys() >= {"right", "none"}
  # What is shown and asked fits in bytes: nothing is cut.
  lengths = results["settings"]["feature_lengths"]
  for row in rows:
    shown = [part for pair in row["demonstrations"] for part in pair]
    assert len(row["input"].encode()) < lengths["inputs"]
    assert len("".join(shown).encode()) < lengths["demonstrations"]
