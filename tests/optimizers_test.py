import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax import optimizers


@pytest.mark.parametrize(
  "schedule, wanted",
  [
    (optimizers.Constant(2.0), {0: 2.0, 9: 2.0}),
    (
      optimizers.Constant(2.0, warmup_steps=4),
      {0: 0.5, 1: 1.0, 3: 2.0, 9: 2.0},
    ),
    (
      optimizers.LinearDecay(1.0, decay_steps=12, warmup_steps=2),
      {0: 0.5, 1: 1.0, 2: 1.0, 7: 0.5, 12: 0.0, 20: 0.0},
    ),
    (
      optimizers.LinearDecay(2.0, decay_steps=5, warmup_steps=1, final=1.0),
      {0: 2.0, 1: 2.0, 2: 1.75, 4: 1.25, 5: 1.0, 6: 1.0},
    ),
    (
      # Warm-up ends after the decay: one step leads to the end.
      optimizers.LinearDecay(1.0, decay_steps=2, warmup_steps=4),
      {0: 0.25, 2: 0.75, 3: 1.0, 4: 1.0, 5: 0.0},
    ),
    # From its first step to the next, where there is no more room.
    (optimizers.LinearDecay(2.0, decay_steps=1), {0: 2.0, 1: 0.0}),
    (
      optimizers.LinearDecay(2.0, decay_steps=2, warmup_steps=2),
      {0: 1.0, 1: 2.0, 2: 2.0, 3: 0.0},
    ),
    (optimizers.CosineDecay(2.0, decay_steps=1), {0: 2.0, 1: 0.0}),
    (
      optimizers.CosineDecay(2.0, decay_steps=2, warmup_steps=2),
      {0: 1.0, 1: 2.0, 2: 2.0, 3: 0.0},
    ),
    (
      optimizers.CosineDecay(1.0, decay_steps=10, final=0.2),
      {0: 1.0, 5: 0.6, 10: 0.2, 11: 0.2},
    ),
    (
      optimizers.CosineDecay(3.0, decay_steps=8, warmup_steps=2, final=1.0),
      {0: 1.5, 1: 3.0, 2: 3.0, 4: 2.5, 5: 2.0, 6: 1.5, 8: 1.0, 90: 1.0},
    ),
    (
      optimizers.InverseSquareRoot(flat_steps=100),
      {0: 0.1, 100: 0.1, 400: 0.05},
    ),
    (
      optimizers.InverseSquareRoot(2.0, flat_steps=4, warmup_steps=4),
      {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 16: 0.5},
    ),
  ],
  ids=str,
)
def test_a_schedule_has_the_values_of_its_formula(schedule, wanted):
  for step, value in wanted.items():
    assert float(schedule(step)) == pytest.approx(value, rel=1e-5)


def test_adafactor_treats_stacked_layers_one_by_one():
  """Scanning must not change what is learnt."""
  rng = np.random.default_rng(0)
  layers = rng.normal(size=(3, 4, 6)).astype(np.float32)
  layers *= np.array([1.0, 10.0, 100.0])[:, None, None]
  grads = rng.normal(size=(3, 4, 6)).astype(np.float32)
  adafactor = optimizers.Adafactor(
    optimizers.Constant(0.1), min_dim_size_to_factor=2
  ).build()

  @jax.jit
  def updated(params, grad):
    state = adafactor.init(params)
    for _ in range(3):
      updates, state = adafactor.update(grad, state, params)
      params = optax.apply_updates(params, updates)
    return params

  stacked = updated(
    {"encoder": {"layers": {"kernel": layers}}, "norm": jnp.ones(5)},
    {"encoder": {"layers": {"kernel": grads}}, "norm": jnp.ones(5)},
  )
  for i in range(3):
    alone = updated({"kernel": layers[i]}, {"kernel": grads[i]})
    np.testing.assert_allclose(
      stacked["encoder"]["layers"]["kernel"][i], alone["kernel"], rtol=1e-5
    )


def test_gradients_are_clipped_to_their_global_norm():
  adam = optimizers.AdamW(optimizers.Constant(1.0), clip_norm=1.0)
  params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
  state = adam.build().init(params)
  grads = {"a": jnp.array([30.0, 0.0]), "b": jnp.array([40.0])}
  _, state = adam.build().update(grads, state, params)
  moments = optax.tree.get(state, "mu")
  clipped = jax.tree.map(lambda x: x / 0.1, moments)
  np.testing.assert_allclose(clipped["a"], [0.6, 0.0], rtol=1e-5)
  np.testing.assert_allclose(clipped["b"], [0.8], rtol=1e-5)


BY_TASK = {
  "adamw": optimizers.AdamW(
    optimizers.Constant(0.1), weight_decay=0.1, clip_norm=0.5
  ),
  "adafactor": optimizers.Adafactor(
    optimizers.Constant(0.1), min_dim_size_to_factor=2, clip_norm=0.5
  ),
}


@pytest.mark.parametrize("name", BY_TASK)
def test_a_task_among_others_is_updated_as_if_it_were_alone(name):
  """Their gradients differ in size, so a norm of all would be another."""
  single = BY_TASK[name].build()
  several = optimizers.by_task(single)
  rng = np.random.default_rng(0)
  drawn = {
    "encoder": {"layers": {"up": (2, 3, 4, 5), "scale": (2, 3, 4)}},
    "shared": (1, 3, 6),
  }
  is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
  params, grads = (
    jax.tree.map(
      lambda s: rng.normal(size=s).astype(np.float32), drawn, is_leaf=is_shape
    )
    for _ in range(2)
  )
  scales = np.array([0.01, 1.0, 100.0], np.float32)
  grads = jax.tree.map(
    lambda x: x * scales.reshape(-1, *[1] * (x.ndim - 2)), grads
  )

  @functools.partial(jax.jit, static_argnames="which")
  def trained(params, grads, which):
    how = several if which == "several" else single
    state = how.init(params)
    for _ in range(3):
      updates, state = how.update(grads, state, params)
      params = optax.apply_updates(params, updates)
    return params

  together = trained(params, grads, "several")
  for task in range(3):
    own, own_grads = (
      jax.tree.map(lambda x: x[:, task], tree)  # noqa: B023
      for tree in (params, grads)
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x[:, task], y, rtol=2e-5),  # noqa: B023
      together,
      trained(own, own_grads, "single"),
    )
