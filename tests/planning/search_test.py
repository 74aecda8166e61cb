"""What a search tries, in which order, and what it says."""

import jax
import pytest

from hyperjax import runs
from hyperjax.planning import account, jobs, search, settings, sheets, targets
from tests.planning import plan_test

pytestmark = pytest.mark.usefixtures("no_configuration")


def _run(*options) -> runs.Train:
  return plan_test._run(*options)


def _target(memory):
  sheet = sheets.Sheet("dot", False, memory, 1e9, 1e9, 1e9, 1e9, "")
  return targets.Target("8 dots", jax.devices()[:8], sheet, memory, False)


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


def test_a_setting_is_gin_lines_that_make_that_run():
  setting = settings.Setting({"fsdp": 4, "tensor": 2}, 2, "minimal")
  changed = _run(f"--gin_bindings={setting.gin()}")
  assert dict(changed.mesh.axes) == {"fsdp": 4, "tensor": 2}
  assert changed.num_microbatches == 2
  assert changed.problem.backbone.remat == "minimal"
  assert changed.problem.hypermodel.t5.remat == "minimal"


def test_a_setting_changes_how_a_run_is_computed_and_nothing_else():
  run = _run()
  same = settings.Setting({}, 1, "none").of(run)
  assert same == run
  changed = settings.Setting({"fsdp": 8}, 2, "full").of(run)
  assert changed.batch_size == run.batch_size
  assert changed.optimizer == run.optimizer


def test_more_microbatches_take_less_and_last_longer():
  found = {
    (len(x.setting.axes), x.setting.num_microbatches): x
    for x in search.candidates(_run(), _target(2**30))
    if x.setting.remat == "none" and x.setting.axes in ({}, {"tensor": 4})
  }
  one, two = found[1, 1], found[1, 2]
  assert two.values < one.values
  assert two.seconds > one.seconds


def test_rematerialisation_takes_less_and_lasts_longer():
  found = {
    x.setting.remat: x
    for x in search.candidates(_run(), _target(2**30))
    if not x.setting.axes and x.setting.num_microbatches == 1
  }
  assert found["full"].values < found["minimal"].values < found["none"].values
  assert found["full"].seconds > found["none"].seconds


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


def test_the_fastest_setting_that_fits_is_said_as_gin(host_search):
  found, said = host_search
  assert found and all(each.plan.fits for each in found)
  steps = [each.plan.programs[0].estimate.step for each in found]
  assert steps == sorted(steps)
  text = search.text(found)
  assert found[0].gin in text and "NUM_MICROBATCHES" in text
  assert any("settings estimated" in line for line in said)


@pytest.fixture
def host_search():
  said = []
  return search.best(_run(), _target(2**30), 0.001, said.append), said


def test_nothing_that_fits_is_said_too():
  found = search.best(_run(), _target(1000), 60)
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
