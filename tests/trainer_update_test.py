"""A step of training does what its formulas say, number for number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax import checks, optimizers, sharding, trees
from hyperjax.batch import Batch
from hyperjax.models import objectives, problems, t5_layers
from tests import testing, update_reference

VOCAB, WIDTH, LAYERS = 7, 5, 2
ROWS, LENGTH, STEPS = 8, 4, 3


@dataclasses.dataclass(frozen=True)
class Chain(problems.Problem):
  """Multiplies an embedding by kernels, stacked as layers are."""

  z_loss: checks.Weight = 0.0
  label_smoothing: checks.Share = 0.0

  def init(self, key):
    keys = jax.random.split(key, 4)
    normal = jax.random.normal
    params = {
      "embedding": normal(keys[0], (VOCAB, WIDTH)),
      "bias": 0.1 * normal(keys[1], (WIDTH,)),
      "decoder": {
        "layers": {"kernel": 0.5 * normal(keys[2], (LAYERS, WIDTH, WIDTH))}
      },
    }
    return params, {"out": normal(keys[3], (WIDTH, VOCAB))}

  def loss(self, params, frozen, batch, key):
    del key
    x_BTD = params["embedding"][batch.decoder_input_tokens]
    for layer in range(LAYERS):
      x_BTD = x_BTD @ params["decoder"]["layers"]["kernel"][layer]
    return objectives.token_loss(
      (x_BTD + params["bias"]) @ frozen["out"],
      batch.decoder_target_tokens,
      batch.decoder_loss_weights,
      self.z_loss,
      self.label_smoothing,
    )


def _batch(step: int) -> Batch:
  """Rows differ in how many targets they have, so microbatches differ too."""
  drawn = np.random.default_rng(step)
  ids = drawn.integers(1, VOCAB, (2, ROWS, LENGTH)).astype(np.int32)
  ends = 1 + (np.arange(ROWS) + step) % LENGTH
  weights = (np.arange(LENGTH) < ends[:, None]).astype(np.float32)
  return Batch(ids[0], ids[0], ids[1], weights)


def _slots(opt_state) -> dict[tuple[str, str], np.ndarray]:
  """Arrays of an optimizer's state: by its name there, and the parameter's."""
  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(opt_state)[0]:
    last = max(i for i, x in enumerate(path) if hasattr(x, "name"))
    names = [x.key for x in path[last + 1 :] if hasattr(x, "key")]
    key = path[last].name, "/".join(names)
    # Steps are counted more than once, all alike.
    np.testing.assert_array_equal(found.setdefault(key, leaf), leaf)
  return found


# A schedule, its rates in the first three steps by hand, and an optimizer's
# options. Gradients have a norm of about 0.5.
ADAMW = {
  "defaults": (optimizers.Constant(0.1), [0.1] * 3, {}),
  "clipped": (
    optimizers.LinearDecay(0.3, decay_steps=3, warmup_steps=1, final=0.1),
    [0.3, 0.3, 0.2],
    {"clip_norm": 0.02, "eps": 1e-3},
  ),
  "moments": (
    optimizers.CosineDecay(0.3, decay_steps=2, final=0.1),
    [0.3, 0.2, 0.1],
    {"b1": 0.7, "b2": 0.95, "eps": 0.03, "clip_norm": None},
  ),
  "decay": (
    optimizers.Constant(0.3, warmup_steps=4),
    [0.075, 0.15, 0.225],
    {"weight_decay": 0.4},
  ),
  "inverse square root": (
    optimizers.InverseSquareRoot(0.2, flat_steps=1),
    [0.2, 0.2, 0.2 / 2**0.5],
    {},
  ),
}
ADAFACTOR = {
  "defaults": (optimizers.Constant(0.1), [0.1] * 3, {}),
  "factored": (
    optimizers.Constant(0.1),
    [0.1] * 3,
    {"min_dim_size_to_factor": 5, "clipping_threshold": 0.5},
  ),
  "momentum": (
    optimizers.LinearDecay(0.3, decay_steps=3, warmup_steps=1, final=0.1),
    [0.3, 0.3, 0.2],
    {"momentum": 0.8, "min_dim_size_to_factor": 2, "clipping_threshold": None},
  ),
  "absolute": (
    optimizers.Constant(0.1),
    [0.1] * 3,
    {
      "multiply_by_parameter_scale": False,
      "decay_rate": 0.5,
      "clip_norm": 0.02,
    },
  ),
}


def _trained(problem, optimizer, reference, num_microbatches=1):
  """States of the trainer after each step, with what they should be."""
  trainer = testing.make_trainer(
    problem, optimizer, num_microbatches=num_microbatches
  )
  state = trainer.init(0)
  params = trees.flatten(jax.device_get(state.params))
  params = {name: np.float64(x) for name, x in params.items()}
  frozen = np.asarray(state.frozen["out"])
  for step in range(STEPS):
    batch = _batch(step)
    state, metrics = trainer.train_step(state, trainer.layout.place_own(batch))
    sums, grads = update_reference.chain_loss(
      params,
      frozen,
      batch.decoder_input_tokens,
      batch.decoder_target_tokens,
      batch.decoder_loss_weights,
      problem.z_loss,
      problem.label_smoothing,
    )
    weight = sums.pop("weight")
    grads = {name: x / weight for name, x in grads.items()}
    params = reference.update(params, grads)
    np.testing.assert_array_equal(state.frozen["out"], frozen)
    wanted = {name: (total, weight) for name, total in sums.items()}
    wanted["gradient_norm"] = update_reference.norm(grads), 1
    yield jax.device_get(state), jax.device_get(metrics), params, wanted


def _assert_near(found, wanted, name):
  """To four digits of the whole array: single gradients may cancel."""
  distance = np.linalg.norm(np.asarray(found) - wanted)
  assert distance <= 1e-4 * np.linalg.norm(wanted), name


@functools.cache
def _start():
  """The parameters that all of these begin with."""
  return jax.device_get(
    trees.flatten(testing.make_trainer(Chain()).init(0).params)
  )


def _assert_as_the_reference(problem, optimizer, reference, num_microbatches=1):
  start = _start()
  steps = list(_trained(problem, optimizer, reference, num_microbatches))
  for step, (state, metrics, params, wanted) in enumerate(steps, 1):
    assert int(state.step) == step
    assert metrics.keys() == wanted.keys()
    for name, (total, weight) in wanted.items():
      np.testing.assert_allclose(metrics[name][0], total, 1e-5, err_msg=name)
      assert metrics[name][1] == weight, name
    found = trees.flatten(jax.device_get(state.params))
    assert found.keys() == params.keys()
    for name, array in params.items():
      _assert_near(found[name] - start[name], array - start[name], name)
  return steps[-1][0]


@pytest.mark.parametrize("schedule, rates, options", ADAMW.values(), ids=ADAMW)
def test_adamw_updates_by_its_formula(schedule, rates, options):
  reference = update_reference.AdamW(rates, **options)
  state = _assert_as_the_reference(
    Chain(), optimizers.AdamW(schedule, **options), reference
  )
  slots = _slots(state.opt_state)
  moments = {key: x for key, x in slots.items() if key[0] in ("mu", "nu")}
  assert moments.keys() == reference.slots.keys()
  for key, moment in reference.slots.items():
    _assert_near(moments[key], moment, key)
  counts = {int(x) for key, x in slots.items() if key[0] == "count"}
  assert counts == {STEPS}
  assert not slots.keys() - moments.keys() - {("count", "")}


@pytest.mark.parametrize(
  "schedule, rates, options", ADAFACTOR.values(), ids=ADAFACTOR
)
def test_adafactor_updates_by_its_algorithm(schedule, rates, options):
  reference = update_reference.Adafactor(rates, **options)
  state = _assert_as_the_reference(
    Chain(), optimizers.Adafactor(schedule, **options), reference
  )
  slots = _slots(state.opt_state)
  names = {"rows": "v_row", "columns": "v_col", "v": "v", "ema": "ema"}
  for (slot, path), wanted in reference.slots.items():
    path, _, layer = path.partition("[")
    found = slots[names[slot], path]
    if layer:
      found = found[int(layer.strip("]"))]
    if slot in ("rows", "columns") and found.shape != wanted.shape:
      # optax names the smaller of the two axes' means the rows'.
      found = slots[{"rows": "v_col", "columns": "v_row"}[slot], path]
    _assert_near(found, wanted, (slot, path))


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_microbatches_are_the_whole_batch(name):
  """Their weights differ, so a mean of their means would be another gradient."""
  schedule, rates = optimizers.Constant(0.1), [0.1] * 3
  optimizer, reference = {
    "adamw": (
      optimizers.AdamW(schedule, weight_decay=0.1),
      update_reference.AdamW(rates, weight_decay=0.1),
    ),
    "adafactor": (
      optimizers.Adafactor(schedule, min_dim_size_to_factor=2),
      update_reference.Adafactor(rates, min_dim_size_to_factor=2),
    ),
  }[name]
  _assert_as_the_reference(Chain(), optimizer, reference, num_microbatches=8)


def test_the_loss_with_its_options_is_what_is_descended():
  _assert_as_the_reference(
    Chain(z_loss=0.05, label_smoothing=0.2),
    optimizers.AdamW(optimizers.Constant(0.1)),
    update_reference.AdamW([0.1] * 3),
    num_microbatches=4,
  )


@dataclasses.dataclass(frozen=True)
class Shares(problems.Problem):
  """The gradient of a row is its first input token."""

  def init(self, key):
    del key
    return {"x": jnp.zeros((), jnp.bfloat16)}, {}

  def loss(self, params, frozen, batch, key):
    del frozen, key
    loss = (params["x"] * batch.encoder_input_tokens).sum()
    weight = jnp.float32(batch.encoder_input_tokens.size // 4)
    return loss, weight, {"loss": (loss, weight)}


class Kept(optimizers.Optimizer):
  """Plain descent at a rate of 1 that keeps the gradient it was given."""

  learning_rate = optimizers.Constant(1.0)

  def build(self, rate=None):
    return optax.GradientTransformation(
      lambda params: jax.tree.map(jnp.zeros_like, params),
      lambda grads, state, params=None: (
        jax.tree.map(jnp.negative, grads),
        grads,
      ),
    )


def test_microbatches_are_summed_in_float32_whatever_the_parameters():
  """In bfloat16 256 + 1 is 256, and 259 is rounded to 260."""
  trainer = testing.make_trainer(Shares(), Kept(), num_microbatches=4)
  tokens = np.array([[256], [1], [1], [1]], np.int32)
  state, _ = trainer.train_step(
    trainer.init(0), trainer.layout.place_own(Batch(tokens, None, None, None))
  )
  assert state.params["x"].dtype == jnp.bfloat16
  assert float(state.params["x"]) == -260


@dataclasses.dataclass(frozen=True)
class Noise(problems.Problem):
  """The gradient of a weight is what is drawn for it by the loss's key."""

  def init(self, key):
    del key
    return {"x": jnp.zeros(16)}, {}

  def loss(self, params, frozen, batch, key):
    del frozen
    loss = jnp.dot(params["x"], jax.random.normal(key, (16,)))
    weight = jnp.float32(len(batch.encoder_input_tokens))
    return loss, weight, {"loss": (loss, weight)}


@pytest.mark.parametrize("num_microbatches", [1, 3])
def test_each_microbatch_of_each_step_draws_with_a_key_of_its_own(
  num_microbatches,
):
  """The state's key, which stays, folded with the step, then with the index."""
  trainer = testing.make_trainer(
    Noise(), Kept(), num_microbatches=num_microbatches
  )
  state = trainer.init(4)
  data = np.asarray(jax.random.key_data(state.key))
  seen = []
  for step in range(3):
    batch = Batch(np.ones((3, 1), np.int32), None, None, None)
    state, _ = trainer.train_step(state, trainer.layout.place_own(batch))
    step_key = jax.random.fold_in(jax.random.wrap_key_data(data), step)
    drawn = [
      np.asarray(jax.random.normal(jax.random.fold_in(step_key, i), (16,)))
      for i in range(num_microbatches)
    ]
    _assert_near(state.opt_state["x"], sum(drawn) / 3, step)
    np.testing.assert_array_equal(jax.random.key_data(state.key), data)
    seen += [tuple(x) for x in drawn]
  assert len(set(seen)) == 3 * num_microbatches


@dataclasses.dataclass(frozen=True)
class Masks(problems.Problem):
  """The gradient of a row's weights is what T5's dropout leaves of ones."""

  def init(self, key):
    del key
    return {"x": jnp.zeros((ROWS, 32))}, {}

  def loss(self, params, frozen, batch, key):
    del frozen
    rows_B = batch.encoder_input_tokens[:, 0]
    ones_B1D = jnp.ones((len(rows_B), 1, 32))
    names = sharding.BATCH, sharding.LENGTH, sharding.MLP
    left_B1D = t5_layers.Dropout(0.5).apply(
      {}, sharding.constrain(ones_B1D, *names), rngs={"dropout": key}
    )
    loss = (params["x"][rows_B] * left_B1D[:, 0]).sum()
    return loss, jnp.float32(1), {"loss": (loss, jnp.float32(1))}


def _masks(num_devices=1, axes=()):
  """What is left in each of two steps of two microbatches: [2, rows, 32]."""
  trainer = testing.make_trainer(
    Masks(), Kept(), num_devices, axes, num_microbatches=2
  )
  state, found = trainer.init(0), []
  rows = np.arange(ROWS, dtype=np.int32)[:, None]
  for _ in range(2):
    batch = trainer.layout.place_own(Batch(rows, None, None, None))
    state, _ = trainer.train_step(state, batch)
    found.append(2 * np.asarray(state.opt_state["x"]))  # of a weight of 2
  return np.stack(found)


@pytest.mark.parametrize(
  "mesh", [(2,), (8, {"tensor": 2}), (8, {"fsdp": 2, "tensor": 2})], ids=str
)
def test_a_row_has_a_mask_of_its_own_in_each_step_whatever_the_mesh(mesh):
  """Rows 2 i and 2 i + 1 have one place, in different microbatches."""
  found = _masks()
  assert set(np.unique(found)) == {0, 2}  # half of them dropped, half doubled
  assert len({row.tobytes() for row in found.reshape(-1, 32)}) == 2 * ROWS
  np.testing.assert_array_equal(_masks(*mesh), found)


def test_a_batch_without_targets_has_no_gradient():
  trainer = testing.make_trainer(Chain())
  state = trainer.init(0)
  before = jax.device_get(state.params)
  batch = _batch(0)
  empty = dataclasses.replace(
    batch, decoder_loss_weights=np.zeros_like(batch.decoder_loss_weights)
  )
  state, metrics = trainer.train_step(state, trainer.layout.place_own(empty))
  assert metrics["gradient_norm"][0] == 0
  jax.tree.map(np.testing.assert_array_equal, before, state.params)
