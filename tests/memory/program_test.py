"""Programs: one for each shape, refused before they run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hyperjax.memory import program
from hyperjax.memory.answer import OutOfMemory
from tests import testing


def _squares(x, *, power=2):
  return jnp.exp(x[:, None] * x[None, :]) ** power


def test_checking_and_running_compile_once():
  made = program.Program(_squares, "squares", static_argnames=("power",))
  x = np.arange(3, dtype=np.float32)
  with testing.compilations() as found:
    made.check(jax.ShapeDtypeStruct((3,), np.float32), power=3)
    first = made(x, power=3)
    made(x + 1, power=3)
  assert (len(found), made.num_compiled) == (1, 1)
  np.testing.assert_allclose(first, np.exp(np.outer(x, x)) ** 3, rtol=1e-5)
  made(x, power=2)
  made(np.arange(4, dtype=np.float32), power=2)
  assert made.num_compiled == 3


def test_arrays_elsewhere_and_of_other_types_have_programs_of_their_own():
  made = program.Program(lambda x: x + 1, "a sum")
  mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
  x = np.arange(4)
  split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
  for given in (x, split, x.astype(np.float32)):
    np.testing.assert_array_equal(made(given), x + 1)
  assert made.num_compiled == 3


def test_what_does_not_fit_is_refused_before_it_runs():
  ran = []

  def outer(x):
    jax.debug.callback(lambda: ran.append(1))
    return _squares(x)

  made = program.Program(outer, "an outer product")
  made(jnp.ones(2))
  jax.effects_barrier()
  assert ran == [1]
  with pytest.raises(OutOfMemory) as said:
    made(np.ones(1 << 22, np.float32))
  jax.effects_barrier()
  assert ran == [1]
  # 2^44 numbers of four bytes; nothing is held but one.
  assert said.value.asked >= 1 << 46
  assert str(said.value).startswith("an outer product takes 65,536.0 GiB")


def test_bytes_are_those_of_results_and_of_arguments_that_are_not_there_yet():
  made = program.Program(lambda x: x * 2, "a product")
  x = jax.ShapeDtypeStruct((1000,), np.float32)
  assert made.check(x) == 4000
  assert made.check(x, is_placed=False) == 8000


def test_a_buffer_that_is_given_away_is_not_counted():
  made = program.Program(lambda x: x * 2, "a product", donate_argnums=0)
  assert made.check(jax.ShapeDtypeStruct((1000,), np.float32)) == 0


def test_devices_of_a_host_share_its_memory():
  made = program.Program(lambda x: x * 2, "a product")
  mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
  everywhere = NamedSharding(mesh, PartitionSpec())
  x = jax.ShapeDtypeStruct((1000,), np.float32, sharding=everywhere)
  assert made.check(x) == 4 * 4000
