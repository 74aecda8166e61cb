"""The loop: how many steps it takes, and what it writes of them."""

import contextlib
import dataclasses
import functools
import io
import itertools
import re
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import (
  adapters,
  checkpoints,
  loop,
  metrics,
  optimizers,
  trace,
  watching,
)
from hyperjax.batch import Batch
from hyperjax.models import flops, problems
from hyperjax.watching import progress as progress_module
from tests import testing, trainer_update_test, update_reference

BATCHES = [trainer_update_test._batch(step) for step in range(8)]


class _Hook:
  """Notes at which steps it is asked."""

  def __init__(self):
    self.steps = []

  def run(self, state):
    self.steps.append(int(state.step))
    return {"seen": float(state.step)}


@functools.cache
def _trainer(problem=trainer_update_test.Chain()):  # noqa: B008
  return testing.make_trainer(
    problem,
    optimizers.AdamW(
      optimizers.LinearDecay(0.3, decay_steps=5, warmup_steps=1, final=0.1)
    ),
  )


def _train(folder, num_steps, periods, hooks=(), batches=BATCHES, **options):
  """Trains on as many batches as are asked for; the state, and checkpoints."""
  trainer = options.pop("trainer", None) or _trainer()
  kept = options.pop("kept", checkpoints.Kept(None))
  saver = checkpoints.Checkpoints(folder / "checkpoints", kept)
  positions = itertools.count(8, 8)
  endless = zip(itertools.cycle(batches), positions, strict=False)
  with (
    contextlib.closing(saver),
    contextlib.closing(metrics.RunLog(folder, None)) as log,
  ):
    state = loop.train(
      trainer,
      options.pop("state", None) or trainer.init(0),
      endless,
      num_steps=num_steps,
      periods=periods,
      saver=saver,
      log=log,
      hooks=hooks,
      **options,
    )
    facts = {step: saver.facts(step) for step in saver.steps()}
  return state, facts


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder, hook = tmp_path_factory.mktemp("trained"), _Hook()
  periods = loop.Periods(log=2, save=3, evaluate=4)
  state, facts = _train(folder, 5, periods, [hook])
  return folder, state, facts, hook.steps


def test_as_many_updates_are_done_as_were_asked_for(trained):
  _, state, facts, evaluated = trained
  assert int(state.step) == 5
  assert list(facts) == [3, 5]
  assert [found.position for found in facts.values()] == [24, 40]
  assert evaluated == [0, 4, 5]


def test_lines_hold_the_means_of_their_steps_and_the_last_ones_rate(trained):
  """Of all their target tokens together; by hand, in numpy."""
  folder = trained[0]
  lines = metrics.read(folder / metrics.METRICS)
  lines = [line for line in lines if "seen" not in line]
  assert [line["step"] for line in lines] == [2, 4, 5]
  # 0.3 for two steps, then in a straight line to 0.1 at step 5.
  rates = [0.3, 0.3, 0.25, 0.2, 0.15]
  state = _trainer().init(0)
  wanted = _reference(jax.device_get(state), rates)
  for line, own in zip(
    lines, (wanted[:2], wanted[2:4], wanted[4:]), strict=True
  ):
    weight = sum(sums["weight"] for sums in own)
    for name in ("loss", "cross_entropy", "token_accuracy"):
      mean = sum(sums[name] for sums in own) / weight
      assert line[name] == pytest.approx(mean, rel=1e-4), (name, line["step"])
    norm = np.mean([sums["gradient_norm"] for sums in own])
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert line["learning_rate"] == pytest.approx(rates[line["step"] - 1])


def test_what_is_in_no_line_yet_is_in_the_checkpoint(trained):
  """Step 3 is in none when it is saved; step 5 is."""
  folder, _, facts, _ = trained
  assert facts[3].pending.keys() >= {"loss", "gradient_norm"}
  assert facts[3].pending["gradient_norm"][1] == 1
  assert facts[3].pending["loss"][1] == BATCHES[2].decoder_loss_weights.sum()
  assert facts[5].pending == {}
  assert metrics.read(folder / metrics.METRICS)[-2]["step"] == 5


def _reference(state, rates):
  """Metrics of each step as sums."""
  params = {
    "embedding": state.params["embedding"],
    "bias": state.params["bias"],
    "decoder/layers/kernel": state.params["decoder"]["layers"]["kernel"],
  }
  adam, found = update_reference.AdamW(rates), []
  for batch in BATCHES[: len(rates)]:
    sums, grads = update_reference.chain_loss(
      params,
      state.frozen["out"],
      batch.decoder_input_tokens,
      batch.decoder_target_tokens,
      batch.decoder_loss_weights,
    )
    grads = {name: x / sums["weight"] for name, x in grads.items()}
    found.append(sums | {"gradient_norm": update_reference.norm(grads)})
    params = adam.update(params, grads)
  return found


def test_each_line_says_how_fast_its_steps_were(trained):
  """Steps and tokens over the time since the last line."""
  folder = trained[0]
  lines = metrics.read(folder / metrics.TIMINGS)
  assert [line["step"] for line in lines] == [2, 4, 5]
  before = 0
  for line in lines:
    steps, seconds = line["step"] - before, line["seconds"]
    assert line["steps_per_second"] * seconds == pytest.approx(steps)
    # All inputs and all targets of a row: no token of theirs is padding.
    tokens = sum(
      np.count_nonzero(x)
      for batch in BATCHES[before : line["step"]]
      for x in (batch.encoder_input_tokens, batch.decoder_target_tokens)
    )
    assert line["tokens_per_second"] * seconds == pytest.approx(tokens)
    before = line["step"]


@pytest.mark.seqio
def test_a_trace_is_of_the_steps_that_were_asked_for(tmp_path):
  """Marked as XProf reads steps; TensorFlow knows the format."""
  from tensorflow.tsl.profiler.protobuf import xplane_pb2

  own = trace.Trace((1, 3), tmp_path)
  _train(tmp_path, 5, loop.Periods(log=9, save=9), trace=own)
  (written,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
  steps = []
  for plane in xplane_pb2.XSpace.FromString(written.read_bytes()).planes:
    names = {key: each.name for key, each in plane.event_metadata.items()}
    stats = {key: each.name for key, each in plane.stat_metadata.items()}
    steps += [
      stat.int64_value
      for line in plane.lines
      for event in line.events
      if names[event.metadata_id] == "train"
      for stat in event.stats
      if stats[stat.metadata_id] == "step_num"
    ]
  assert steps == [1, 2]


@pytest.mark.parametrize("profile", [(2, 2), (3, 9)], ids=str)
def test_a_trace_of_steps_that_are_none_of_the_runs_is_refused(profile):
  periods = loop.Periods(log=1, save=1, profile=profile)
  with pytest.raises(ValueError, match=r"--profile\) is \d:\d; .*STEPS, 8$"):
    periods.check(8, ())
  loop.Periods(log=1, save=1, profile=(0, 8)).check(8, ())


def test_the_time_of_evaluations_is_no_steps(tmp_path):
  """The line of step 4 has only the steps since the evaluation at step 2."""
  _train(tmp_path, 4, loop.Periods(log=4, save=4, evaluate=2), [_Hook()])
  (line,) = metrics.read(tmp_path / metrics.TIMINGS)
  assert line["steps_per_second"] * line["seconds"] == pytest.approx(2)


def test_a_run_goes_on_from_its_step_with_what_was_in_no_line(tmp_path):
  """Without an evaluation at its start; the batches after it are its own."""
  first, facts = _train(tmp_path / "a", 3, loop.Periods(2, 3))
  assert facts[3].pending == {}
  hook, pending = _Hook(), {"gradient_norm": [10.0, 3.0], "gone": [4.0, 2.0]}
  state, facts = _train(
    tmp_path / "b",
    5,
    loop.Periods(log=2, save=9, evaluate=9),
    [hook],
    BATCHES[3:],
    state=first,
    pending=pending,
  )
  assert int(state.step) == 5 and list(facts) == [5]
  assert hook.steps == [5]
  lines = metrics.read(tmp_path / "b" / metrics.METRICS)
  assert [line["step"] for line in lines] == [4, 5, 5]
  assert lines[0]["gone"] == 2.0 and "gone" not in lines[1]
  whole, _ = _train(tmp_path / "c", 5, loop.Periods(2, 9))
  jax.tree.map(np.testing.assert_array_equal, state.params, whole.params)
  alone = metrics.read(tmp_path / "c" / metrics.METRICS)
  own = 4 * lines[0]["gradient_norm"] - 10.0  # of step 4
  assert alone[1]["gradient_norm"] == pytest.approx(
    (own + _norm_of_step_3(tmp_path)) / 2, rel=1e-5
  )


def _norm_of_step_3(folder):
  return metrics.read(folder / "a" / metrics.METRICS)[1]["gradient_norm"]


def test_nothing_is_evaluated_unless_asked_for(tmp_path):
  hook = _Hook()
  state, _ = _train(tmp_path, 1, loop.Periods(1, 1), [hook])
  assert not hook.steps
  # A run that is done takes no further step.
  again, _ = _train(tmp_path / "b", 1, loop.Periods(1, 1), state=state)
  assert int(again.step) == 1


@dataclasses.dataclass(frozen=True)
class _Root(problems.Problem):
  """A loss of 0 whose gradient is infinite once a token is 0."""

  def init(self, key):
    del key
    return {"x": jnp.zeros(())}, {}

  def loss(self, params, frozen, batch, key):
    del frozen, key
    loss = jnp.sqrt(0 * params["x"] + batch.encoder_input_tokens.min())
    loss, weight = 0 * loss, jnp.float32(1)
    return loss, weight, {"loss": (loss, weight)}


def test_a_run_stops_at_a_loss_that_is_no_number(tmp_path):
  """The step, where its data lies, and the checkpoint before it are named."""
  weights = BATCHES[2].decoder_loss_weights * np.float32(np.nan)
  broken = dataclasses.replace(BATCHES[2], decoder_loss_weights=weights)
  with pytest.raises(
    FloatingPointError,
    match=r"step 3: the loss is nan. .* context 24 .* good checkpoint .* 2$",
  ):
    _train(tmp_path, 6, loop.Periods(4, 2), batches=[*BATCHES[:2], broken])


def test_a_run_stops_at_a_gradient_that_is_no_number(tmp_path):
  batches = [
    Batch(
      np.full((8, 1), first, np.float32),
      None,
      *[BATCHES[0].decoder_target_tokens] * 2,
    )
    for first in (1, 0)
  ]
  with pytest.raises(
    FloatingPointError, match=r"step 2: the gradient_norm is nan"
  ):
    _train(
      tmp_path,
      6,
      loop.Periods(1, 1),
      batches=batches,
      trainer=_trainer(_Root()),
    )


def _asking(signals, at):
  """Batches; signals come while those of `at` are made."""
  for i, batch in enumerate(itertools.cycle(BATCHES), 1):
    if i == at:
      for number in signals:
        signal.raise_signal(number)
    yield batch


@pytest.mark.parametrize(
  "signals, status",
  [([signal.SIGTERM] * 2, 143), ([signal.SIGINT], 130)],
  ids=str,
)
def test_a_run_that_is_asked_to_stop_saves_its_step_first(
  tmp_path, signals, status, caplog
):
  before = [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
  with pytest.raises(loop.Stopped, match="stopped after step 2; ") as stopped:
    _train(tmp_path, 9, loop.Periods(9, 9), batches=_asking(signals, 2))
  assert (stopped.value.step, stopped.value.status) == (2, status)
  assert checkpoints.Checkpoints(tmp_path / "checkpoints").steps() == [2]
  assert "saving first" in caplog.text
  after = [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
  assert after == before


def test_a_second_interrupt_ends_at_once(tmp_path):
  batches = _asking([signal.SIGINT] * 2, 2)
  with pytest.raises(KeyboardInterrupt):
    _train(tmp_path, 9, loop.Periods(9, 9), batches=batches)
  assert not checkpoints.Checkpoints(tmp_path / "checkpoints").steps()


def test_a_run_asked_to_stop_in_its_last_step_is_done(tmp_path):
  batches = _asking([signal.SIGTERM], 2)
  state, facts = _train(tmp_path, 2, loop.Periods(9, 9), batches=batches)
  assert int(state.step) == 2 and list(facts) == [2]


class _AskedInTheEnd(checkpoints.Checkpoints):
  """Whoever waits for a save is asked to stop."""

  def wait(self):
    signal.raise_signal(signal.SIGTERM)
    super().wait()


def test_a_signal_does_not_end_a_run_that_waits_for_its_last_checkpoint(
  tmp_path, monkeypatch
):
  outside = []
  monkeypatch.setattr(checkpoints, "Checkpoints", _AskedInTheEnd)
  before = signal.signal(signal.SIGTERM, lambda *_: outside.append(1))
  try:
    _, facts = _train(tmp_path, 1, loop.Periods(9, 9))
  finally:
    signal.signal(signal.SIGTERM, before)
  assert (list(facts), outside) == ([1], [])


class _Clock:
  now = 100.0

  def monotonic(self):
    return self.now


LINE = {"loss": 2.5, "learning_rate": 0.125}


def _lapped(monkeypatch, costs=watching.Costs()):  # noqa: B008
  """Two laps, of 2 steps in 4 seconds and of 1 in 1, of steps 2 to 1000."""
  clock = _Clock()
  monkeypatch.setattr(progress_module, "time", clock)
  progress = watching.Progress(2, 1000, costs)
  shares = []
  for step, seconds, count in ((4, 4.0, 2), (5, 1.0, 1)):
    for _ in range(count):
      progress.count(
        Batch(np.ones((2, 300)), None, np.eye(3, 4), None, np.ones((2, 50)))
      )
    clock.now += seconds
    shares.append(progress.lap(step, LINE))
  progress.show("said")
  progress.close()
  return shares


def test_a_log_has_a_line_of_where_the_run_stands(monkeypatch, capsys):
  shares = _lapped(monkeypatch)
  assert shares == [
    {
      "seconds": 4.0,
      "steps_per_second": 0.5,
      "tokens_per_second": 351.5,
      "padded_tokens_per_second": 356.0,
      "data_wait_seconds": 0.0,
    },
    {
      "seconds": 1.0,
      "steps_per_second": 1.0,
      "tokens_per_second": 703.0,
      "padded_tokens_per_second": 712.0,
      "data_wait_seconds": 0.0,
    },
  ]
  assert capsys.readouterr().out.splitlines() == [
    "step    4/1000  loss 2.5000  lr 1.25e-01  0.50 steps/s  352 tokens/s"
    " (with compilation)  0:33:12 left",
    "step    5/1000  loss 2.5000  lr 1.25e-01  1.00 steps/s  703 tokens/s"
    "  0:16:35 left",
    "said",
  ]


def test_waiting_for_data_is_counted_until_the_next_line(monkeypatch):
  clock = _Clock()
  monkeypatch.setattr(progress_module, "time", clock)
  progress = watching.Progress(0, 9)

  def slowly():
    for seconds in (3.0, 0.5, 2.0):
      clock.now += seconds
      yield seconds

  waits = []
  for step, _ in enumerate(progress.timed(slowly()), 1):
    clock.now += 10.0
    if step > 1:
      waits.append(progress.lap(step, LINE)["data_wait_seconds"])
  progress.close()
  assert waits == [3.5, 2.0]


def test_arithmetic_is_held_against_the_peak_of_all_devices(monkeypatch):
  problem = testing.hypertuning(adapters.LoraSpec(2))
  # Each batch has 2 contexts of a row: 50 tokens are read, then 300, then 4.
  each = flops.needed(problem, flops.Sizes(2, 2, 50, 300, 4))["total"]
  shares = _lapped(monkeypatch, watching.Costs(problem, 1e9))
  own = [share["model_flops_per_second"] for share in shares]
  assert own == [2 * each / 4.0 / 8, each / 1.0 / 8]
  used = [share["model_flops_utilization"] for share in shares]
  assert used == [speed / 1e9 for speed in own]


def test_without_a_data_sheet_there_is_no_share_of_a_peak(monkeypatch):
  costs = watching.Costs.of(testing.hypertuning(adapters.LoraSpec(2)))
  (share, _) = _lapped(monkeypatch, costs)
  assert share["model_flops_per_second"] > 0
  assert "model_flops_utilization" not in share


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_terminal_has_a_bar_of_steps(monkeypatch, capsys):
  monkeypatch.setenv("COLUMNS", "100")  # what is wider is cut
  terminal = _Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  _lapped(monkeypatch)
  shown = terminal.getvalue().split("\r")[-1]
  assert re.search(r" 5/1000 .*loss 2.5000 .*703 tokens/s\]", shown), shown
  assert capsys.readouterr().out == "said\n"


def test_of_several_processes_only_the_first_says_anything(monkeypatch, capsys):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  shares = _lapped(monkeypatch)
  # Its part is as large as the others'.
  assert shares[1]["tokens_per_second"] == 2 * 703
  assert (capsys.readouterr().out, terminal.getvalue()) == ("", "")


def test_of_many_values_the_first_few_are_shown():
  """Those of single tasks are only counted."""
  values = {"loss": 2.0, "loss/a": 1.0, "loss/b": 3.0, "other/x": 0.12345}
  assert watching.listed(values) == "loss 2  other/x 0.1235  and 2 more"
  assert (
    watching.listed({"a": 1.0, "b": 2.0, "c": 3.0}, 2) == "a 1  b 2  and 1 more"
  )
  assert watching.listed({"a": 1.0}) == "a 1"
  many = {str(i): 0.0 for i in range(9)}
  assert watching.listed(many).endswith("7 0  and 1 more")
