"""Answers and their scores, by hand, and the files that hold both."""

import json

import pytest

from hyperjax.data.store import store
from hyperjax.scores import columns, official_report, results


def _answer(task, row, right, none, draw=0, **changes):
  """Of the target "yes", answered in two columns."""
  given = {
    "input": f"{task} {row}",
    "target": "yes",
    "references": ["yes"],
    "demonstrations": [["a", "b"]],
    "predictions": {"right": right, "none": none},
  }
  return results.Answer(task, row, draw, **(given | changes))


# Of task a all are right, of task b one half; without an adapter one of b.
ANSWERS = [
  _answer("b", 0, "yes", "no", category="animals"),
  _answer("b", 1, "no", "yes", category="animals"),
  _answer("a", 0, "yes", "no", category="plants"),
  _answer("a", 0, "yes", "no", draw=1, category="plants"),
]
METRICS = ("equal", "exact_match")


def _task(name, scoring=None):
  rows = [
    {"inputs": [2], "targets": [3], "record": {"number": i}} for i in range(2)
  ]
  held = store.in_memory(rows, ("inputs", "targets"))
  return store.Task(name, "test", held, scoring=scoring)


def _write(folder, answers, tasks=None, **options):
  tasks = [_task(name) for name in "abc"] if tasks is None else tasks
  facts = {"step": 7, "conditions": {"right": "its own", "none": "nothing"}}
  found = results.write(
    folder, "some", METRICS, answers, tasks, facts, **options
  )
  path = folder / "some-results.json"
  assert json.loads(path.read_text()) == found
  return found


def test_scores_are_means_overall_by_category_and_by_task(tmp_path):
  found = _write(tmp_path / "new", ANSWERS)
  overall = {"targets": 4, "equal": 0.75, "exact_match": 0.75}
  assert found["scores"] == {
    "none": {"targets": 4, "equal": 0.25, "exact_match": 0.25},
    "right": overall,
  }
  assert list(found["tasks"]) == ["a", "b"]
  assert found["tasks"]["a"]["right"]["equal"] == 1
  assert found["tasks"]["b"]["none"] == {
    "targets": 2,
    "equal": 0.5,
    "exact_match": 0.5,
  }
  assert list(found["categories"]) == ["animals", "plants"]
  assert found["categories"]["animals"] == found["tasks"]["b"]
  assert (found["name"], found["num_tasks"], found["step"]) == ("some", 2, 7)
  assert found["metrics"] == ["equal", "exact_match"]
  assert not {"rank_accuracy", "official", "seqio_metrics"} & found.keys()


def test_without_categories_there_are_none(tmp_path):
  answers = [_answer("a", 0, "é", "no")]
  assert "categories" not in _write(tmp_path, answers)
  [line] = (tmp_path / "some-predictions.jsonl").read_text().splitlines()
  assert '"é"' in line
  assert json.loads(line)["predictions"] == {"right": "é", "none": "no"}


def test_means_are_over_tasks_and_gains_over_the_same_targets(tmp_path):
  found = _write(tmp_path, ANSWERS)
  right = found["intervals"]["right"]["equal"]
  # The mean of 1 of task a, of two draws, and 1/2 of task b, of one.
  assert (right["mean"], right["tasks"], right["draws"]) == (0.75, 2, 2)
  assert found["intervals"]["none"]["equal"]["mean"] == 0.25
  assert found["gains"].keys() == {"none"}
  # 1 of task a; of b one more and one less.
  assert found["gains"]["none"]["equal"]["mean"] == 0.5
  assert found["gains"]["none"]["exact_match"]["tasks"] == 2


def test_another_tasks_answer_counts_only_where_it_differs():
  """And is scored by that task's own, which is no gain over anything."""
  predictions = {"right": "yes", "other": "maybe"}
  told = {"predictions": predictions, "other_task": "b"}
  answers = [
    _answer("a", 0, "", "", other_references=["maybe"], **told),
    _answer("a", 1, "", "", other_references=[" yes "], **told),
    _answer("a", 2, "", "", **told),
  ]
  assert [answer.agrees_with_other for answer in answers] == [
    False,
    True,
    False,
  ]
  found = results.scored(answers, ["equal"])
  assert results.summarize(found) == {
    "other": {"targets": 2, "equal": 0.0},
    "other_against_other": {"targets": 1, "equal": 1.0},
    "right": {"targets": 3, "equal": 1.0},
  }
  assert results.with_intervals(found)["gains"].keys() == {"other"}


RANKED = {
  # By the sum the first, by the mean of its tokens the second.
  "right": {"log_likelihoods": [-2.0, -3.0], "num_tokens": [1, 2]},
  "none": {"log_likelihoods": [-3.0, -2.0], "num_tokens": [2, 1]},
}


def test_ranked_choices_are_counted_by_either_score_and_by_task(tmp_path):
  asked = {"choices": ["yes", "no"], "rankings": RANKED}
  other = {**asked, "references": ["no"]}
  answers = [
    _answer("a", 0, "yes", "no", **asked),
    _answer("a", 1, "yes", "no", **asked),
    _answer("b", 0, "yes", "no", **other),
    _answer("c", 0, "yes", "no"),
  ]
  found = _write(tmp_path, answers)
  assert found["rank_accuracy"] == {
    "right": {
      "by_sum": pytest.approx(2 / 3),
      "per_token": pytest.approx(1 / 3),
    },
    "none": {"by_sum": pytest.approx(1 / 3), "per_token": pytest.approx(2 / 3)},
  }
  assert found["tasks"]["a"]["rank_accuracy"] == {
    "right": {"by_sum": 1.0, "per_token": 0.0},
    "none": {"by_sum": 0.0, "per_token": 1.0},
  }
  assert found["tasks"]["b"]["rank_accuracy"]["right"]["by_sum"] == 0.0
  assert "rank_accuracy" not in found["tasks"]["c"]


class _Counting:
  """Metrics of a seqio task: what they were given."""

  def score(self, predictions, targets, records):
    assert targets == ["yes"] * len(predictions)
    numbers = [record["number"] for record in records]
    return {"yes": predictions.count("yes"), "sum": sum(numbers)}


def test_seqio_scores_the_tasks_that_have_metrics(tmp_path):
  tasks = [_task("a"), _task("b", _Counting())]
  found = _write(tmp_path, ANSWERS, tasks)
  assert found["seqio_metrics"] == {
    "b": {"right": {"yes": 1, "sum": 1}, "none": {"yes": 1, "sum": 1}}
  }
  assert "seqio_metrics" not in _write(
    tmp_path, ANSWERS, tasks[:1] * 2 + [_task("b")]
  )


def _figures(answers):
  report = official_report.Report(
    "sni", {"rougeL": 100.0 * len(answers)}, {}, ["as it is"]
  )
  return {"right": report}


def test_a_table_has_the_columns_that_were_scored_and_the_official_figures(
  tmp_path,
):
  found = _write(tmp_path, ANSWERS, own_figures=_figures)
  assert found["official"] == {"right": _figures(ANSWERS)["right"].content()}
  found["conditions"]["rotated"] = "not asked"
  head, names, right, none, note, *official = results.table(found).splitlines()
  assert head == "some: 2 tasks, step 7"
  assert names.split() == [
    *("answered", "from", "equal", "exact_match", "targets")
  ]
  low, high = (found["intervals"]["right"]["equal"][x] for x in ("low", "high"))
  cell = f"75.0 [{100 * low:5.1f}, {100 * high:5.1f}]"
  assert right == f"  {'its own':32}" + 2 * f"{cell:>24}" + f"{4:10}"
  assert none.startswith("  nothing ") and " 25.0 [" in none
  assert note == "  [ ]: 95% interval of the mean over tasks and draws"
  assert official == [
    "",
    "sni    rougeL",
    "all  400.0000",
    "",
    "note: as it is",
  ]
  del found["official"]
  assert results.table(found).splitlines()[4:] == [note]


def test_columns_have_words_and_an_order():
  assert columns.label("none") == "nothing: no adapter"
  assert columns.label("none", {"none": "plain"}) == "plain"
  assert columns.label("mine") == "mine"
  given = ["mine", "other", "also", "none", "other_against_other", "right"]
  assert columns.ordered(given) == [
    *("right", "none", "other", "other_against_other", "also", "mine")
  ]
