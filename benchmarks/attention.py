"""Memory of one attention, forward and backward, by the TPU compiler.

The kernel (models/attention_kernel.py) beside plain attention, compiled for one chip
of a topology; no TPU is needed. Prints the table of docs/attention.md: temporary
memory, and bytes that plain attention moves (a compiler knows no kernel's own).

  python -m benchmarks.attention --topologies v5e:2x2 v5p:2x2x1
"""

import argparse
import dataclasses
from typing import Any

from hyperjax.planning import targets


@dataclasses.dataclass(frozen=True)
class Case:
  """One attention in bfloat16, its bias trained."""

  name: str
  rows: int
  heads: int
  queries: int
  keys: int
  prefix: int = 0
  has_distances: bool = True


CASES = (
  Case("Base, inputs of 512", 32, 12, 512, 512),
  Case("Large, demonstrations of 1,024", 16, 16, 1024, 1024),
  Case("Large, behind a prefix of 32", 16, 16, 512, 512, 32),
  Case("Large, cross-attention", 16, 16, 128, 1024, 0, False),
  Case("XL, rows of 4,096", 4, 32, 4096, 4096),
)
WIDTH = 64


def function(case: Case, back_end: str) -> Any:
  """Gradients of one attention, for arrays [B, T, H, K] and distances [H, N]."""
  import jax
  import jax.numpy as jnp

  from hyperjax.models import attention

  def total(query, key, value, distances, keys, weights):
    bias = attention.Bias(back_end=back_end)
    if distances is not None and back_end == "pallas":
      bias = dataclasses.replace(bias, distances=distances)
    elif distances is not None:
      pairs = attention.of_pairs(distances, case.queries)[None]
      bias = dataclasses.replace(bias, pairs=pairs)
    bias = dataclasses.replace(bias, keys=keys, prefix=case.prefix)
    y = attention.attention(query, key, value, bias)
    return jnp.sum(y.astype(jnp.float32) * weights)

  return jax.grad(total, argnums=(0, 1, 2, 3)[: 3 + case.has_distances])


def compiled(case: Case, back_end: str, device: Any) -> Any:
  """The program; None where the chip has too little memory for it."""
  import jax
  import jax.numpy as jnp

  from hyperjax import sharding

  place = jax.sharding.SingleDeviceSharding(device)

  def abstract(*shape: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

  keys = case.prefix + case.keys
  query = abstract(case.rows, case.queries, case.heads, WIDTH)
  key = abstract(case.rows, keys, case.heads, WIDTH)
  distances = None
  if case.has_distances:
    length = case.queries + case.keys - 1
    distances = abstract(case.heads, length, dtype=jnp.float32)
  masked = abstract(case.rows, keys, dtype=jnp.float32)
  with sharding.made_for(device):
    traced = jax.jit(function(case, back_end)).trace(
      query, key, key, distances, masked, query
    )
  try:
    return traced.lower(lowering_platforms=("tpu",)).compile()
  except jax.errors.JaxRuntimeError as error:
    if "Ran out of memory" not in str(error):
      raise
    return None


def temporary(program: Any) -> str:
  if program is None:
    return "does not fit"
  return f"{program.memory_analysis().temp_size_in_bytes / 2**20:,.0f}"


def moved(program: Any) -> str:
  if program is None:
    return ""
  return f"{program.cost_analysis()['bytes accessed'] / 1e9:.1f}"


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--topologies", nargs="+", default=["v5e:2x2", "v5p:2x2x1"]
  )
  topologies = parser.parse_args().topologies
  targets.prepare(topologies[0], None, None)
  print("| attention | chip | plain, MiB | kernel, MiB | plain moves, GB |")
  print("|---|---|---|---|---|")
  for topology in topologies:
    device = targets.of(topology, None, None).devices[0]
    chip = topology.partition(":")[0]
    for case in CASES:
      plain, kernel = (compiled(case, x, device) for x in ("plain", "pallas"))
      print(
        f"| {case.name} | {chip} | {temporary(plain)} | {temporary(kernel)} | "
        f"{moved(plain)} |",
        flush=True,
      )


if __name__ == "__main__":
  main()
