"""Written adapters trained further: by which steps, how many, and what is said."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from hyperjax import adapters, main, serving, sharding
from hyperjax.artifacts import adapter_folder
from hyperjax.models import forward
from hyperjax.serving import tuner, tuning
from tests import served_example

FEW = served_example.pairs(7, 3)
RATE = 0.01


@pytest.fixture(scope="module")
def model(served):
  """On one device, so that a step is of three rows."""
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  return serving.load(str(served / "lora"), layout=layout)


@pytest.fixture(scope="module")
def written(model):
  return model.adapt(FEW)


def test_how_they_are_trained_is_a_tuning(model):
  with pytest.raises(ValueError, match=r"as Tuning\(steps=50\); got 50$"):
    serving.tune(model, FEW, 50)


def _told(adapter):
  return adapter.info.origin[tuning.FURTHER]


def _loss(model, tree, pairs):
  """The mean over target tokens, row by row, of a T5 under an adapter."""
  total, count = 0.0, 0
  params = jax.device_get(model.backbone.params)
  for given, output in pairs:
    ids = np.array([model.read(given).ids])
    target = np.array([model.encode(output)])
    before = np.pad(target, ((0, 0), (1, 0)))[:, :-1]
    setting = forward.Setting(params, ids, tree)
    logits = forward.logits(model.backbone.config, setting, before)
    likely = jax.nn.log_softmax(logits)[0, np.arange(target.size), target[0]]
    total, count = total - likely.sum(), count + target.size
  return total / count


def test_the_first_step_moves_each_number_by_the_rate_against_its_gradient(
  model, written
):
  """AdamW's, of the mean loss over the target tokens of all examples."""
  further = serving.tune(model, FEW, serving.Tuning(1, RATE))
  wanted = jax.jit(jax.value_and_grad(lambda tree: _loss(model, tree, FEW)))
  before, gradient = wanted(written.arrays)
  moved = jax.tree.map(np.subtract, further.arrays, written.arrays)
  leaves = zip(*map(jax.tree.leaves, (moved, gradient)), strict=True)
  for step, slope in leaves:
    is_steep = np.abs(slope) > 1e-4
    np.testing.assert_allclose(
      step[is_steep], -RATE * np.sign(slope)[is_steep], rtol=1e-3
    )
  after, _ = wanted(further.arrays)
  curve = _told(further)["curve"]
  assert [x["step"] for x in curve] == [0, 1]
  found = [x["loss"] for x in curve]
  np.testing.assert_allclose(found, [before, after], rtol=1e-4)
  assert after < before


@pytest.mark.slow
def test_without_enough_to_hold_some_out_scores_are_of_what_it_was_trained_on(
  model, written
):
  found = serving.tune(model, FEW, serving.Tuning(60, 0.05))
  told = _told(found)
  assert (told["held_out"], told["steps"], told["examples"]) == (0, 60, 3)
  assert told["after"]["log_likelihood"] > told["before"]["log_likelihood"]
  assert (
    "on 3 examples that it was trained on, none held out" in told["sentence"]
  )
  texts = model.predict([given for given, _ in FEW], found)
  answers = [output for _, output in FEW]
  assert told["after"]["score"] == np.mean(np.equal(texts, answers))


def _word(index):
  return served_example.rows(7)[index]["inputs"]


@pytest.mark.slow
def test_a_rule_that_no_hypermodel_knows_is_learnt_by_those_held_out(model):
  """All answers are one word, of which a quarter of the examples knows nothing."""
  pairs = [(_word(i), "oslo") for i in range(8)]
  found = serving.tune(model, pairs, serving.Tuning(60, 0.05))
  told = _told(found)
  assert (told["held_out"], told["examples"]) == (2, 8)
  assert told["before"]["score"] == 0 and told["after"]["score"] == 1
  losses = {x["step"]: x["loss"] for x in told["curve"]}
  assert min(losses, key=losses.get) == told["steps"] > 0
  assert model.predict([_word(9)], found) == ["oslo"]


@pytest.mark.slow
def test_what_makes_those_held_out_less_likely_is_not_done(model):
  """The first and the fifth of eight are held out, whose answers are others."""
  pairs = served_example.pairs(7, 8)
  pairs = [(x, "oslo" if i % 4 else y) for i, (x, y) in enumerate(pairs)]
  found = serving.tune(model, pairs, serving.Tuning(20, 0.1))
  told = _told(found)
  assert told["steps"] == 0 and told["before"] == told["after"]
  assert told["sentence"].startswith("none of 20 steps made it better")
  assert found.identity == model.adapt(pairs).identity
  # It ends where nothing has got better for a while.
  assert [x["step"] for x in told["curve"]] == [0, 1, 2, 3, 4, 5]


def test_a_t5_answers_as_before_after_its_weights_were_lent(model, written):
  asked = served_example.questions()[:2]
  before = model.predict(asked, written)
  serving.tune(model, FEW, serving.Tuning(1, RATE))
  assert model.predict(asked, written) == before
  with pytest.raises(ZeroDivisionError), model.backbone.lent() as lent:
    jax.tree.map(lambda x: x.delete(), lent.params)
    raise ZeroDivisionError
  assert model.predict(asked, written) == before


@pytest.mark.slow
def test_a_rate_that_leaves_no_numbers_is_named(model, written):
  pool = model.pool(FEW)
  how = serving.Tuning(2, 1e30)
  with pytest.raises(
    ValueError, match=r"^after \d steps at --learning_rate 1e\+30 the loss"
  ):
    tuner.further(model, [tuner.Task(pool, written)], how)


@pytest.mark.slow
def test_adapt_says_both_scores_and_saves_the_curve(served, tmp_path, capsys):
  rows = [{"input": x, "output": y} for x, y in FEW]
  (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, rows)))
  given = ["adapt", f"--model={served / 'lora'}"]
  given += [f"--examples={tmp_path / 'e.jsonl'}", f"--out={tmp_path / 'a'}"]
  assert not main.main([*given, "--steps=2", "--learning_rate=0.01"])
  shown = capsys.readouterr().out
  told = _told(adapter_folder.read(tmp_path / "a"))
  assert f"  trained further: {told['sentence']}\n" in shown
  assert "  check of the adapter as written: answers" in shown
  check = adapter_folder.read_info(tmp_path / "a")[0].check
  assert check["of"] == "written"
  assert check["sentence"].startswith("as written: answers")
  assert len(told["curve"]) == 3 and told["learning_rate"] == 0.01
  assert not main.main(["adapter", "info", str(tmp_path / "a")])
  assert f"    trained_further: {told['sentence']}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
  "options, message",
  [
    (["--learning_rate=0.1"], "it needs --steps"),
    (["--steps=2", "--update=there"], "--steps and --update exclude"),
    (["--steps=2", "--keep_encoded"], "--steps and --keep_encoded exclude"),
  ],
)
def test_options_of_steps_that_do_not_go_together_are_refused(
  options, message, tmp_path, capsys
):
  given = ["adapt", "--model=none", "--examples=e", f"--out={tmp_path / 'a'}"]
  assert main.main([*given, *options]) == 1
  assert message in capsys.readouterr().err


def test_a_kind_has_a_rate_of_its_own_unless_one_is_given():
  how = serving.Tuning(1)
  assert how.rate(adapters.LoraSpec(2)) < how.rate(adapters.PrefixSpec(2))
  both = adapters.ComposedSpec((adapters.LoraSpec(2), adapters.PrefixSpec(2)))
  assert how.rate(both) == how.rate(adapters.LoraSpec(2))
  assert dataclasses.replace(how, learning_rate=0.5).rate(None) == 0.5
