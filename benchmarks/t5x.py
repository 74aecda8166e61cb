"""Train step, forward pass and greedy decoding beside t5x's, in one process.

T5 1.1 small in float32, 8 rows of 256 and 64 tokens, on the first device; t5x's own
`examples/t5` network, loss and decoding, and the same optimizer for both. t5x finds
embeddings by a product with one-hot rows, which suits TPUs; here it gathers them,
which is faster on a CPU. Works run in turn. Ratios are t5x's least time over ours:
above 1 this package is the faster.

  T5X_PATH=DIR:DIR python -m benchmarks.t5x --json=OUT

`T5X_PATH` has the folders that t5x and what it needs are imported from; of t5x that
is `examples/t5`, `losses`, `decoding` and `binary_search`, which need jax and flax.
"""

import argparse
import functools
import json
import os
import pathlib
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import measuring
from hyperjax import optimizers, sharding
from hyperjax.batch import Batch
from hyperjax.models import flops, forward, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

ROWS, INPUTS, TARGETS, DECODED = 8, 256, 64, 32
SMALL = {
  "vocab_size": 32128,
  "emb_dim": 512,
  "num_heads": 6,
  "head_dim": 64,
  "mlp_dim": 1024,
  "num_encoder_layers": 8,
  "num_decoder_layers": 8,
  "mlp_activations": ("gelu", "linear"),
}
# An id that random weights do not write, or rows would end.
NEVER_WRITTEN = SMALL["vocab_size"] - 1
OPTIMIZER = optimizers.Adafactor(optimizers.Constant(1e-3))
Works = dict[str, Callable[[], Any]]


def tokens() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Inputs, the decoder's inputs and targets, without padding."""
  generator = np.random.default_rng(0)
  inputs, targets = (
    generator.integers(2, 32000, (ROWS, length)).astype(np.int32)
    for length in (INPUTS, TARGETS)
  )
  return inputs, np.pad(targets, ((0, 0), (1, 0)))[:, :-1], targets


def own_works() -> tuple[Works, dict[str, int]]:
  """This package's works, and the operations of each in products."""
  config = T5Config(**SMALL, eos_ids=(NEVER_WRITTEN,))
  inputs, shifted, targets = tokens()
  trainer = Trainer(
    problems.LanguageModel(config),
    OPTIMIZER,
    sharding.MeshSpec().build(jax.devices()[:1]),
  )
  batch = Batch(
    encoder_input_tokens=inputs,
    decoder_input_tokens=shifted,
    decoder_target_tokens=targets,
    decoder_loss_weights=np.ones(targets.shape, np.float32),
    demonstrations=None,
  )
  operations = {"train": flops.count(trainer.trace_train_step(batch).jaxpr)}
  held = [trainer.init(0)]
  params = jax.tree.map(jnp.copy, held[0].params["backbone"])

  def train() -> Any:
    held[0], metrics = trainer.train_step(held[0], batch)
    return metrics

  logits = jax.jit(
    lambda params: forward.logits(
      config, forward.Setting(params, inputs), shifted
    )
  )
  decode = jax.jit(
    lambda params: forward.decode(
      config, forward.Setting(params, inputs), max_length=DECODED
    )
  )
  works: Works = {
    "train": train,
    "forward": functools.partial(logits, params),
    "decode": functools.partial(decode, params),
  }
  for kind, program in (("forward", logits), ("decode", decode)):
    traced = jax.make_jaxpr(program)(params)
    operations[kind] = flops.count(traced, turns=DECODED)
  return works, operations


def import_t5x() -> types.SimpleNamespace:
  """What of t5x is measured, without the rest of it, which needs far more.

  Raises:
    SystemExit: `T5X_PATH` has no t5x.
  """
  folders = [x for x in os.environ.get("T5X_PATH", "").split(":") if x]
  found = [x for x in folders if (pathlib.Path(x) / "t5x/examples/t5").is_dir()]
  if not found:
    sys.exit(
      "T5X_PATH must have the folder that t5x is in, with t5x/examples/t5; got "
      f"{os.environ.get('T5X_PATH')!r}"
    )
  sys.path[:0] = folders
  package = types.ModuleType("t5x")
  package.__path__ = [str(pathlib.Path(found[0]) / "t5x")]
  sys.modules["t5x"] = package
  from t5x import decoding, losses  # pyright: ignore
  from t5x.examples.t5 import layers, network  # pyright: ignore

  # Patched where the network finds it.
  gathered = types.SimpleNamespace(**vars(layers))
  gathered.Embed = lambda **fields: layers.Embed(**fields | {"one_hot": False})
  network.layers = gathered
  return types.SimpleNamespace(
    decoding=decoding, losses=losses, network=network
  )


def t5x_works() -> Works:
  t5x = import_t5x()
  config = t5x.network.T5Config(**SMALL, dropout_rate=0.0)
  module = t5x.network.Transformer(config)
  inputs, shifted, targets = tokens()
  key = jax.random.key(0)
  init = jax.jit(functools.partial(module.init, enable_dropout=False))
  params = init(key, inputs, shifted, targets)["params"]
  build = OPTIMIZER.build()

  def logits(params: Any) -> jax.Array:
    return module.apply(
      {"params": params}, inputs, shifted, targets, enable_dropout=False
    )

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state: Any) -> Any:
    params, opt_state = state

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
      found = logits(params)
      total, *_ = t5x.losses.compute_weighted_cross_entropy(
        found, targets, jnp.ones(targets.shape)
      )
      right = found.argmax(axis=-1) == targets
      return total / targets.size, right.mean()

    (mean, right), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = build.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return (params, opt_state), (mean, right, optax.tree.norm(grads))

  copied = jax.tree.map(jnp.copy, params)
  held = [(copied, jax.jit(build.init)(copied))]

  def train() -> Any:
    held[0], metrics = step(held[0])
    return metrics

  decode = jax.jit(functools.partial(_t5x_decode, t5x, module))
  return {
    "train": train,
    "forward": functools.partial(jax.jit(logits), params),
    "decode": functools.partial(decode, params),
  }


def _t5x_decode(t5x: Any, module: Any, params: Any) -> Any:
  """As t5x's `EncoderDecoderModel.predict_batch` does it."""
  inputs, *_ = tokens()
  empty = jnp.ones((ROWS, DECODED), jnp.int32)
  given = {"enable_dropout": False, "decode": True, "mutable": ["cache"]}
  of_params = {"params": params}
  _, made = module.apply(of_params, inputs, empty, empty, **given)
  encoded = module.apply(
    of_params, inputs, enable_dropout=False, method=module.encode
  )

  def next_logits(state: Any) -> Any:
    logits, changed = module.apply(
      of_params | {"cache": state.cache},
      encoded,
      inputs,
      state.cur_token,
      state.cur_token,
      max_decode_length=DECODED,
      method=module.decode,
      **given,
    )
    return logits.squeeze(axis=1), changed["cache"]

  return t5x.decoding.temperature_sample(
    jnp.zeros((ROWS, DECODED), jnp.int32),
    made["cache"],
    next_logits,
    NEVER_WRITTEN,
    jax.random.key(0),
    temperature=0.0,
    topk=1,
  )


def square_seconds(operations: int) -> float:
  """As much arithmetic in products of 1,024 x 1,024: the machine at its best."""
  x = jnp.ones((1024, 1024))
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(x, x))
  least = min(measuring.seconds(lambda: product(x, x)) for _ in range(20))
  return least * operations / (2 * 1024**3)


def measure(
  works: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, dict[str, list[float]]]:
  """Seconds by the clock and of the process's cores, in turn, after one of each."""
  for work in works.values():
    jax.block_until_ready(work())
  found = {name: {"clock": [], "cores": []} for name in works}
  for _ in range(repeats):
    for name, work in works.items():
      cores = time.process_time()
      found[name]["clock"].append(measuring.seconds(work))
      found[name]["cores"].append(time.process_time() - cores)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--repeats", type=int, default=7)
  args = parser.parse_args()
  print(measuring.machine())
  own, operations = own_works()
  other = t5x_works()
  result: dict[str, Any] = {"train_operations": operations["train"]}
  for kind in ("train", "forward", "decode"):
    taken = measure({"own": own[kind], "t5x": other[kind]}, args.repeats)
    least = {
      name: {clock: min(values) for clock, values in each.items()}
      for name, each in taken.items()
    }
    result[kind] = {
      "own_s": least["own"]["clock"],
      "t5x_s": least["t5x"]["clock"],
      "ratio": least["t5x"]["clock"] / least["own"]["clock"],
      "ratio_of_cores": least["t5x"]["cores"] / least["own"]["cores"],
    }
    print(kind, {name: round(x, 3) for name, x in result[kind].items()})
  result["train_products_s"] = square_seconds(operations["train"])
  print(f"the step's products at best: {result['train_products_s']:.3f} s")
  if args.json:
    args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
  main()
