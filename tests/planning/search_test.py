"""What a search tries, in which order, and what it says."""

import dataclasses

import gin
import jax
import pytest

from hyperjax import adapters, runs
from hyperjax.data import sources
from hyperjax.memory import sheets
from hyperjax.models import problems
from hyperjax.planning import account, jobs, search, settings, targets
from tests.planning import plan_test

pytestmark = pytest.mark.usefixtures("no_configuration")


def _run(*options) -> runs.Train:
  return plan_test._run(*options)


def _target(memory):
  sheet = sheets.Sheet("dot", False, memory, 1e9, 1e9, 1e9, 1e9, "", "")
  return targets.Target("2 dots", jax.devices()[:2], sheet, memory, False)


@pytest.fixture(scope="module")
def candidates():
  """All settings on two devices, by mesh, microbatches and rematerialisation."""
  gin.clear_config(clear_constants=True)
  found = search.candidates(_run(), _target(2**30))
  gin.clear_config(clear_constants=True)
  return {
    (*x.setting.axes, x.setting.num_microbatches, x.setting.remat): x
    for x in found
  }


def test_meshes_are_all_powers_of_two_that_the_devices_allow():
  assert list(settings.meshes(4)) == [
    {},
    {"fsdp": 2},
    {"fsdp": 4},
    {"tensor": 2},
    {"fsdp": 2, "tensor": 2},
    {"tensor": 4},
  ]
  assert {"fsdp": 2} not in list(settings.meshes(3))


def test_microbatches_divide_each_devices_contexts():
  run = _run()  # 16 contexts
  assert list(settings.parts(run, 2)) == [1, 2, 4, 8]
  assert list(settings.parts(run, 16)) == [1]
  assert list(settings.parts(run, 32)) == []


def test_microbatches_of_tasks_side_by_side_divide_the_rows_of_each():
  run = _run()
  config = run.problem.backbone
  tuned = dataclasses.replace(
    run,
    problem=problems.AdapterFineTuning(config, adapters.PrefixSpec(2), 4),
    data=sources.TasksSideBySide(
      run.data.tasks, {"inputs": 8, "targets": 8}, 4, 24
    ),
    batch_size=24,
    evaluations=(),
    periods=dataclasses.replace(run.periods, evaluate=None),
    buckets=None,
  )
  assert list(settings.parts(tuned, 4)) == [1, 2]
  assert list(settings.parts(tuned, 8)) == []


def test_a_setting_is_gin_lines_that_make_that_run():
  setting = settings.Setting({"fsdp": 4, "tensor": 2}, 2, "minimal")
  changed = _run(f"--gin_bindings={setting.gin}")
  assert dict(changed.mesh.axes) == {"fsdp": 4, "tensor": 2}
  assert changed.num_microbatches == 2
  assert changed.problem.backbone.remat == "minimal"
  assert changed.problem.hypermodel.t5.remat == "minimal"


def test_a_setting_changes_how_a_run_is_computed_and_nothing_else():
  run = _run()
  same = settings.Setting({}, 1, "none").of(run)
  assert same == dataclasses.replace(run, num_microbatches=1)
  changed = settings.Setting({"fsdp": 8}, 2, "full").of(run)
  assert changed.batch_size == run.batch_size
  assert changed.optimizer == run.optimizer
  assert changed.problem.backbone.remat == "full"
  assert changed.problem.hypermodel.t5.remat == "full"


@pytest.mark.slow
def test_a_run_that_a_teacher_answers_is_searched_too():
  """Its answers are a loop of at most so many turns."""
  given = (plan_test.TEACHER, *plan_test.ANSWERS)
  found = search.candidates(_run(*given), _target(2**30))
  assert len(found) > 3 and all(each.seconds > 0 for each in found)


def test_more_microbatches_take_less_and_last_longer(candidates):
  one, two = candidates["fsdp", 1, "none"], candidates["fsdp", 2, "none"]
  assert two.values < one.values
  assert two.seconds > one.seconds


def test_rematerialisation_takes_less_and_lasts_longer(candidates):
  none, some, full = [candidates[1, remat] for remat in settings.REMAT]
  assert full.values < some.values < none.values
  assert full.seconds > none.seconds


def test_weights_split_over_devices_take_a_part_of_each():
  run, devices = _run(), jax.devices()[:8]
  whole = jobs.of_training(run, devices)
  split = jobs.of_training(
    settings.Setting({"fsdp": 8}, 1, "none").of(run), devices
  )
  held = account.held(whole)
  # Norms and biases of buckets are all that is whole on each.
  assert account.held(split)["weights_frozen"] < held["weights_frozen"] / 4
  assert account.held(split)["batch"] == held["batch"]


def test_the_fastest_setting_that_fits_is_said_as_gin():
  # The run as it is, which another test has compiled.
  sheet = sheets.Sheet("dot", False, 2**30, 1e9, 1e9, 1e9, 1e9, "", "")
  target = targets.Target("8 dots", jax.devices()[:8], sheet, 2**30, False)
  setting, said = settings.Setting({}, 1, "none"), []
  too_large = search.Candidate(setting, 0.5, held=2**31, values=0)
  small = search.Candidate(setting, 1.0, held=0, values=0)
  found = search.chosen(_run(), target, [too_large, small], 60.0, said.append)
  assert [each.plan.fits for each in found] == [True]
  assert found[0].gin.rstrip() in search.text(found)
  assert said[0].startswith("compiling 1: MESH = {}")
  content = search.content(found)
  assert content["fits"] and content["found"][0]["gin"] == found[0].gin
  assert content["trained"] == plan_test.HYPERMODEL


def test_nothing_that_fits_is_said_too(candidates):
  found = search.chosen(_run(), _target(1000), list(candidates.values()), 60)
  assert found == []
  assert "Nothing was found that fits" in search.text(found)
  assert search.content(found) == {"fits": False, "found": []}


def test_only_a_training_run_is_searched():
  with pytest.raises(ValueError, match="--search is of training runs"):
    search.best(object(), _target(1), 1)


def test_what_the_compiler_says_corrects_the_other_estimates():
  setting = settings.Setting({}, 1, "full")
  chosen = search.Candidate(setting, 1.0, held=100, values=50)
  other = search.Candidate(setting, 2.0, held=100, values=30)
  factors = {"full": 1.0}
  assert search._next([other], factors, 150) is other
  search.learn(factors, chosen, takes=300)  # 200 instead of 50
  assert factors == {"full": 4.0}
  assert search._next([other], factors, 150) is None


def test_what_cannot_be_better_is_not_compiled():
  def made(axes, count, remat, seconds, held, values):
    setting = settings.Setting(axes, count, remat)
    return search.Candidate(setting, seconds, held, values)

  one = made({"fsdp": 8}, 2, "full", 1.0, 10, 20)
  whole = made({"fsdp": 2}, 2, "full", 1.1, 40, 20)
  parts = made({"fsdp": 8}, 4, "full", 1.1, 10, 10)
  other = made({"fsdp": 8}, 2, "none", 1.1, 40, 80)
  wide = made({"fsdp": 4, "tensor": 2}, 2, "full", 1.1, 10, 20)
  fits = [
    x for x in (whole, parts, other, wide) if not search._is_worse(x, one)
  ]
  assert fits == [other, wide]
  rest = [
    x for x in (whole, parts, other, wide) if not search._takes_more(x, one)
  ]
  assert rest == [parts, other, wide]
