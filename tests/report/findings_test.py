"""What is claimed follows from the intervals, good or bad."""

from hyperjax.report import findings, run_files
from tests.report import example

TASKS = [f"t{i}" for i in range(12)]


def _result(folder, name="held_out", **options):
  """The result of twelve tasks, each with the same pattern of right answers."""
  patterns = options.pop("patterns", ["rrrr"] * len(TASKS))
  found = example.answers(
    dict(zip(TASKS, patterns, strict=False)), options.pop("predictions", None)
  )
  example.write_result(folder, name, found, **options)
  return run_files.load([folder], folder).results[0]


def _claims(result):
  return {one.claim: one.holds for one in findings.by_control(result).values()}


def test_answers_that_need_their_own_demonstrations_show_that_they_are_read(
  tmp_path,
):
  result = _result(tmp_path)
  first = next(iter(findings.by_control(result).values()))
  assert first.claim == "It reads its demonstrations" and first.holds is True
  second = list(findings.by_control(result).values())[1]
  assert "100.0], with no adapter 0.0 [0.0, 0.0]:" in second.evidence
  assert first.evidence == (
    "with its own demonstrations 100.0 [100.0, 100.0], with another task's "
    "demonstrations 0.0 [0.0, 0.0]: the intervals do not touch; the gain on the "
    "same targets is +100.0 [+100.0, +100.0], all of it above 0."
  )


def test_answers_alike_under_every_control_show_nothing(tmp_path):
  same = {"none": 1, "other": 1, "rotated": 1, "constant": 1, "in_input": 1}
  assert _claims(_result(tmp_path, predictions=same)) == {
    "Nothing shows that it reads its demonstrations": None,
    "Nothing shows that what it adds to the plain T5 helps": None,
    "Nothing shows that it matters to it which output belongs to which input": None,
    "Nothing shows that writing an adapter for each task beats one for all": None,
    "Nothing tells it from demonstrations in the T5's input": None,
  }


def test_worse_answers_are_said_to_be_worse(tmp_path):
  result = _result(
    tmp_path,
    patterns=["rwww"] * 12,
    predictions={"none": 1, "other": 0, "in_input": 1, "mine": 1},
  )
  assert _claims(result) == {
    "It reads its demonstrations": True,
    "What it adds to the plain T5 does harm": False,
    "Demonstrations in the T5's input beat it": False,
    "It does worse than with mine": False,
  }


def test_a_t5_trained_whole_has_nothing_added_to_it(tmp_path):
  result = _result(tmp_path, predictions={"none": 0}, problem="FullFineTuning")
  assert _claims(result) == {"The demonstrations in its input help": True}


def test_answers_without_controls_carry_no_claim(tmp_path):
  assert _claims(_result(tmp_path, predictions={})) == {}


def test_a_gain_of_some_tasks_among_many_is_not_enough(tmp_path):
  """One of twelve: a resample without it has 35%, far above 2.5%."""
  patterns = ["rrrr"] + ["wwww"] * 11
  result = _result(tmp_path, patterns=patterns)
  first = next(iter(findings.by_control(result).values()))
  assert first.claim == "Nothing shows that it reads its demonstrations"
  assert "the intervals touch" in first.evidence
  assert "which has 0 in it" in first.evidence


def test_one_task_with_one_draw_shows_nothing(tmp_path):
  result = _result(tmp_path, patterns=["rrrr"])
  first = next(iter(findings.by_control(result).values()))
  assert first.holds is None
  assert "one task and one draw of demonstrations have no interval" in (
    first.evidence
  )
