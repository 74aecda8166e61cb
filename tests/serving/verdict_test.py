"""What a check says is what adapters written without an example answer it."""

import json

import numpy as np
import pytest

from hyperjax import serving
from hyperjax.scores import intervals
from hyperjax.serving import held_out, verdict
from hyperjax.serving.examples import Example
from tests import served_example

RULES = served_example.RULES
# The second is given twice, the third again with another output.
PAIRS = served_example.pairs(7, 3)
GIVEN = [*PAIRS, PAIRS[1], (PAIRS[2][0], PAIRS[0][1])]


@pytest.fixture(scope="module")
def model(served):
  return serving.load(str(served / "lora"))


@pytest.fixture(scope="module")
def found(model):
  """Of one task alone, and of two at once in several batches."""
  tasks = [GIVEN, served_example.pairs(300, 3)]
  shared = model.adapt(served_example.pairs(300, 2))
  together = verdict.check_all(model, tasks, shared=shared, batch_size=8)
  return [serving.check(model, GIVEN), together[0], together[1]]


def _likelihood(model, text, adapter, output):
  [[score]] = model.score([text], [adapter], [[model.encode(output)]])
  return score


def test_each_example_is_answered_by_an_adapter_written_without_it(
  model, found
):
  first, second, third = PAIRS
  others = [
    (first, [second, third, second, GIVEN[4]]),
    (second, [first, third, GIVEN[4]]),
    (third, [first, second, second]),
    (GIVEN[4], [first, second, second]),
  ]
  for own in found[:2]:
    assert [(x.input, x.output) for x in own.held_out] == [x for x, _ in others]
    assert (own.num_examples, own.num_parts) == (5, 3)
  for i, ((text, output), read) in enumerate(others):
    adapter = model.adapt(read)
    assert len(set(adapter.info.origin["demonstrations"]["examples"])) >= 2
    shown = [
      part
      for x in model.fit(read).kept
      for side in (x.input, x.output)
      for part in (*model.vocabulary.encode(side), 1)
    ]
    ids = np.asarray([*shown, *model.vocabulary.encode(text), 1], np.int32)
    for own in found[:2]:
      for way, given, under in (
        ("adapter", text, adapter),
        ("none", text, None),
        ("in_input", ids, None),
      ):
        column = own.columns[way]
        wanted = model.answer([given], [under]).texts[0]
        assert column.answers[i] == wanted, way
        assert column.scores[i] == (wanted.split() == output.split())
        assert column.log_likelihoods[i] == pytest.approx(
          _likelihood(model, given, under, output), rel=1e-4, abs=1e-4
        )


def test_a_shared_adapter_stands_beside_the_written_ones(model, found):
  assert "shared" not in found[0].columns
  shared = model.adapt(served_example.pairs(300, 2))
  for i, (text, output) in enumerate(served_example.pairs(300, 3)):
    assert found[2].columns["shared"].log_likelihoods[i] == pytest.approx(
      _likelihood(model, text, shared, output), rel=1e-4, abs=1e-4
    )


def test_what_is_stored_holds_no_text_and_the_same_numbers(found):
  own = found[0]
  stored = json.loads(json.dumps(own.as_json()))
  shown = json.dumps(stored)
  assert not any(text in shown for pair in GIVEN for text in pair)
  assert (stored["examples"], stored["held_out"], stored["parts"]) == (5, 4, 3)
  column = stored["columns"]["none"]
  assert column["score"] == np.mean(column["scores"])
  gains = [
    one - other
    for one, other in zip(
      own.columns["adapter"].log_likelihoods,
      own.columns["none"].log_likelihoods,
      strict=True,
    )
  ]
  assert stored["gain"][0] == pytest.approx(sum(gains) / 4, abs=1e-5)


def test_examples_are_what_an_adapter_is_written_from(model, found, tmp_path):
  (tmp_path / "e.jsonl").write_text(
    "".join(json.dumps({"text": x, "label": y}) + "\n" for x, y in GIVEN)
  )
  named = [{"input": x, "output": y} for x, y in GIVEN]
  for other in (named, tmp_path / "e.jsonl"):
    own = serving.check(model, other)
    assert own.as_json()["columns"] == found[0].as_json()["columns"]
  with pytest.raises(ValueError, match=r"^tasks\[0\]\[0\] must be a pair of"):
    serving.check_all(model, PAIRS)  # one task, not a list of them
  with pytest.raises(ValueError, match=r"^examples\[0\] must be a pair of te"):
    verdict.check_adapter(model, model.adapt(PAIRS), PAIRS[0])


def _verdict(with_, without, metric="equal", gain=1.0):
  def column(scores, raised=0.0):
    likelihoods = tuple(-2.0 + raised for _ in scores)
    return verdict.Column(("",) * len(scores), tuple(scores), likelihoods)

  return verdict.Verdict(
    metric,
    len(with_),
    len(with_),
    tuple(Example("a", "b") for _ in with_),
    {"adapter": column(with_, gain), "none": column(without)},
  )


def test_a_verdict_is_one_sentence():
  good = _verdict([1.0] * 11 + [0.0], [1.0, 1.0] + [0.0] * 10)
  assert good.helps and good.meets(11 / 12) and not good.meets(0.95)
  assert good.sentence() == (
    "answers 11 of 12 held-out examples (95% interval 0.75 to 1.00); without "
    "the adapter 2"
  )
  assert repr(good) == f"Verdict({good.sentence()!r})"
  # No surer of an output, or surer but right no more often, is no better.
  for bad in (
    _verdict([1.0, 1.0], [1.0, 0.0], gain=0.0),
    _verdict([1.0, 0.0], [1.0, 0.0]),
  ):
    assert not bad.helps
    assert bad.sentence().endswith(": no better than the plain T5")
  half = _verdict([0.5, 0.25], [0.0, 0.1], "rouge_l")
  assert half.sentence().startswith("rouge_l 0.38 on 2 held-out examples (95%")
  assert "; without the adapter 0.05" in half.sentence()


def test_one_example_alone_says_nothing(model):
  one = serving.check(model, PAIRS[:1])
  assert one.score is None and not one.meets(0.0) and not one.helps
  assert one.sentence().startswith("1 example: none can be held out")
  assert one.as_json()["columns"] == {}


def test_many_examples_are_held_out_in_sixteen_parts(model):
  rows = [Example(f"{i}", "x", i) for i in range(300)]
  pool = model.pool(rows[:40])
  own = held_out.parts(pool)
  assert len(own) == 16
  assert sorted(x.line for part in own for x in part.held) == list(range(40))
  for part in own:
    lines = {x.line for x in part.held}
    assert set(part.others) == set(range(40)) - lines
  # Of very many some are answered, from the first to near the last.
  lines = sorted(
    x.line for p in held_out.parts(model.pool(rows)) for x in p.held
  )
  assert len(lines) == 128 and lines[0] == 0 and lines[-1] > 290


def test_an_interval_has_width_where_all_are_right_or_wrong():
  right, wrong = (
    intervals.of_answers([1.0] * 6),
    intervals.of_answers([0.0] * 6),
  )
  # 0.607 ** 6 is 0.05.
  assert (right.low, right.high) == (pytest.approx(0.607, abs=1e-3), 1)
  assert (wrong.low, wrong.high) == (0, pytest.approx(0.393, abs=1e-3))
  mixed = [1.0, 0.0, 1.0, 1.0]
  assert intervals.of_answers(mixed) == intervals.of_targets(mixed)


def test_an_unknown_metric_is_refused(model):
  with pytest.raises(ValueError, match="metric must be one of equal, exact_m"):
    serving.check(model, PAIRS, metric="bleu")
