"""Runs against each other: which pairs, and what is claimed of them."""

import json

import pytest

from hyperjax.report import comparing, run_files, words
from tests.report import example

TASKS = [f"t{i}" for i in range(12)]
PREFIX, LORA = {"length": 4}, {"rank": 8}
PLACES = {"encoder.mlp.wo": 4, "encoder.attention.query": 1}


def _evaluate(folder, pattern="rrrr", name="held_out", **facts):
  found = example.answers(dict.fromkeys(TASKS, pattern))
  example.write_result(folder / "inference_eval", name, found, **facts)


def _run(folder, pattern="rrrr", problem="HyperTuning", initial=None, **own):
  facts = own.pop("facts", {})
  example.write_run(folder, [], initial and str(initial), problem, **own)
  _evaluate(folder, pattern, **facts)
  return folder


def _loaded(tmp_path, *names):
  return run_files.load([tmp_path / name for name in names], tmp_path).results


def _pairs(results):
  return [pair.title for pair in comparing.pairs(results)]


@pytest.mark.parametrize(
  "pattern, claim, holds",
  [
    ("wwww", "a beats b", True),
    ("rrrr", "Nothing tells a from b", None),
  ],
)
def test_runs_are_held_against_each_other_on_the_same_targets(
  tmp_path, pattern, claim, holds
):
  for name, own in (("a", "rrrr"), ("b", pattern)):
    found = example.answers(dict.fromkeys(TASKS, own))
    example.write_result(tmp_path / name, "held_out", found)
  a, b = _loaded(tmp_path, "a", "b")
  found = comparing.finding(comparing.Pair(a, b, ""))
  assert (found.claim, found.holds) == (claim, holds)
  found = comparing.finding(comparing.Pair(b, a, ""))
  assert found.holds is (None if holds is None else False)


def test_every_run_is_held_against_the_hypermodel_of_its_kind(tmp_path):
  shared = {"problem": "AdapterFineTuning"}
  _run(tmp_path / "shared_lora", **shared, adapters=LORA)
  _run(tmp_path / "shared_prefix", **shared, adapters=PREFIX)
  _run(tmp_path / "prefix", adapters=PREFIX)
  _run(tmp_path / "lora", adapters=LORA)
  _run(tmp_path / "joint", adapters=PREFIX, train_backbone=True)
  _run(tmp_path / "whole", problem="FullFineTuning", reads_demonstrations=True)
  names = ("shared_lora", "shared_prefix", "prefix", "lora", "joint", "whole")
  assert _pairs(_loaded(tmp_path, *names)) == [
    "lora against shared_lora (one adapter trained for all tasks)",
    "prefix against shared_prefix (one adapter trained for all tasks)",
    "prefix against lora (LoRA of rank 8, not prefixes of 4)",
    "prefix against joint (a hypermodel trained with its T5)",
    "prefix against whole (a T5 trained whole, demonstrations in its input)",
  ]


def test_adapters_of_a_kind_that_no_hypermodel_writes_are_said_to_differ(
  tmp_path,
):
  _run(tmp_path / "prefix", adapters=PREFIX)
  _run(tmp_path / "shared", problem="AdapterFineTuning", adapters=LORA)
  results = _loaded(tmp_path, "prefix", "shared")
  assert _pairs(results) == [
    "prefix against shared (one adapter trained for all tasks; LoRA of rank 8, "
    "not prefixes of 4)"
  ]


def test_hyperpretraining_is_followed_through_the_runs_it_began_with(tmp_path):
  """text read it, with began with text, without began with a T5."""
  example.write_run(tmp_path / "t5", problem="LanguageModel")
  example.write_run(
    tmp_path / "text",
    initial=str(tmp_path / "t5"),
    data="CaclmWindows",
  )
  _run(tmp_path / "without", "wwww", initial=tmp_path / "t5", adapters=LORA)
  _run(tmp_path / "with", initial=tmp_path / "text", adapters=LORA)
  _run(tmp_path / "unknown", initial="/gone", adapters=LORA)
  results = _loaded(tmp_path, "without", "with", "unknown")
  assert [x.run.is_hyperpretrained for x in results] == [False, True, None]
  first, second = comparing.pairs(results)
  assert second.title == "with against unknown"
  assert comparing.finding(first).claim == (
    "with beats without, a hypermodel without hyperpretraining"
  )


def test_results_that_differ_in_more_say_in_what(tmp_path):
  settings = example.SETTINGS | {"num_demonstrations": 9}
  _run(tmp_path / "a", adapters=LORA, facts={"backbone": {"identity": "x"}})
  _run(
    tmp_path / "b",
    problem="AdapterFineTuning",
    adapters=LORA,
    facts={"backbone": {"identity": "y"}, "step": 1900, "settings": settings},
  )
  (pair,) = comparing.pairs(_loaded(tmp_path, "a", "b"))
  assert (
    "(2 and 9 demonstrations, after 7 and 1,900 steps, with different T5s)"
    in comparing.finding(pair).evidence
  )


def test_a_metric_that_one_result_lacks_decides_nothing(tmp_path):
  _run(tmp_path / "a")
  _run(tmp_path / "b")
  path = tmp_path / "b" / "inference_eval" / "held_out-results.json"
  other = json.loads(path.read_text()) | {"metrics": ["exact_match"]}
  path.write_text(json.dumps(other))
  (pair,) = comparing.pairs(_loaded(tmp_path, "a", "b"))
  found = comparing.finding(pair)
  assert (
    found.holds is None and "has no answers exactly right" in found.evidence
  )


def test_a_run_without_its_checkpoints_is_known_by_its_record(tmp_path):
  """As a run folder is that was copied without what is large."""
  for name, problem, own in (
    ("joint", "HyperTuning", {"adapters": LORA, "train_backbone": True}),
    ("whole", "FullFineTuning", {"reads_demonstrations": True}),
    ("further", "AdapterFineTuning", {"adapters": PREFIX, "num_tasks": 3}),
    ("scales", "HyperTuning", {"adapters": {"slots": 16}}),
    ("places", "AdapterFineTuning", {"adapters": {"ranks": PLACES}}),
  ):
    example.write_run(tmp_path / name, [], None, problem, **own)
  names = ("joint", "whole", "further", "scales", "places")
  runs = run_files.load([tmp_path / x for x in names], tmp_path).runs
  assert [words.trained(run) for run in runs] == [
    "hypermodel with its T5 that writes LoRA of rank 8",
    "whole T5, demonstrations in its input (in-context)",
    "prefixes of 4 for each of 3 tasks",
    "hypermodel that writes IA3",
    "LoRA of ranks 1 to 4 at 2 places, shared by all tasks",
  ]


def test_results_whose_run_is_gone_say_what_answered(tmp_path):
  in_context = {"kind": "FullFineTuning", "reads_demonstrations": True}
  _evaluate(tmp_path / "a", model=in_context)
  _evaluate(tmp_path / "b", problem="FullFineTuning")  # an earlier version's
  names = [f"{name}/inference_eval" for name in "ab"]
  assert [words.role(x) for x in _loaded(tmp_path, *names)] == [
    "a T5 trained whole, demonstrations in its input",
    "a T5 trained whole",
  ]


def test_a_run_of_which_nothing_is_known_says_so(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "metrics.jsonl").write_text("")
  (run,) = run_files.load([tmp_path / "run"], tmp_path).runs
  assert run.record is None
  assert {words.trained(run), words.begun(run), words.trained_on(run)} == {
    words.UNKNOWN
  }
