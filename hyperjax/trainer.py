"""Steps of training: init, update, evaluation, microbatches; jitted here."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hyperjax import optimizers, sharding, trees
from hyperjax.batch import Batch
from hyperjax.memory.program import Program
from hyperjax.models import objectives, update
from hyperjax.models.problems import Problem
from hyperjax.train_state import TrainState


def abstract_params(
  problem: Problem, layout: sharding.Layout
) -> tuple[Any, Any]:
  """Shapes of `(params, frozen)` of a problem, and where each array lives.

  Raises:
    ValueError: the mesh does not divide them.
  """
  return _placed(jax.eval_shape(problem.init, jax.random.key(0)), layout)


def _placed(boxed: tuple[Any, Any], layout: sharding.Layout) -> tuple[Any, Any]:
  """Shapes where their logical axes say; refused as `abstract_params` says."""
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.meta.unbox(boxed),
    layout.tree(nn.get_partition_spec(boxed)),
  )
  _check_divides(abstract, layout)
  return abstract


def eval_step(
  state: TrainState, batch: Batch, *, problem: Problem
) -> objectives.Metrics:
  """Metrics of a batch, nothing dropped out."""
  _, _, metrics = problem.loss(state.params, state.frozen, batch, None)
  return metrics


class Trainer:
  """A problem, an optimizer and a mesh, compiled to steps.

  `train_step` gives its state's buffers away: use the state it returns.
  """

  def __init__(
    self,
    problem: Problem,
    optimizer: optimizers.Optimizer,
    layout: sharding.Layout,
    num_microbatches: int = 1,
    skips_broken: bool = False,
  ):
    self.problem = problem
    self.layout = layout
    self.num_microbatches = num_microbatches
    self.learning_rate = optimizer.learning_rate
    self._build = optimizer.build
    if problem.num_tasks > 1:
      self._build = lambda rate=None: optimizers.by_task(optimizer.build(rate))
    self._transformation = self._build()
    boxed = jax.eval_shape(problem.init, jax.random.key(0))
    self.axes: tuple[Any, Any] = nn.get_partition_spec(boxed)
    self.abstract = self._abstract(*_placed(boxed, layout))
    self.shardings = jax.tree.map(lambda x: x.sharding, self.abstract)
    self._train_step = Program(
      functools.partial(
        update.train_step,
        problem=problem,
        build=self._build,
        num_microbatches=num_microbatches,
        skips_broken=skips_broken,
      ),
      "a training step",
      in_shardings=(self.shardings, layout.batch, layout.replicated),
      out_shardings=(self.shardings, layout.replicated),
      donate_argnums=0,
    )
    # Apart from the step, which so is the same program for every schedule.
    self._rate = jax.jit(
      self.learning_rate.__call__, out_shardings=layout.replicated
    )
    self._skips_broken = skips_broken
    self._bucketed: _BucketedStep | None = None
    self._eval_step = Program(
      functools.partial(eval_step, problem=problem),
      "the loss of a batch",
      in_shardings=(self.shardings, layout.batch),
      out_shardings=layout.replicated,
    )

  def init(self, seed: int, given: tuple[Any, Any] | None = None) -> TrainState:
    """A state at step 0.

    Args:
      seed: of the random values, and of the state's key.
      given: `(params, frozen)`, partial trees of arrays that come from
        elsewhere; only what they lack is drawn.
    """
    wanted = (self.abstract.params, self.abstract.frozen)
    flat = [trees.flatten(tree) for tree in wanted]
    known = [trees.flatten(tree) for tree in given or ({}, {})]
    lacking = [
      [path for path in flat[i] if path not in known[i]] for i in (0, 1)
    ]
    drawn_shardings = [
      {path: flat[i][path].sharding for path in lacking[i]} for i in (0, 1)
    ]

    replicated = self.layout.replicated

    def draw(seed):
      init_key, key = jax.random.split(jax.random.key(seed))
      drawn = nn.meta.unbox(self.problem.init(init_key))
      leaves = [trees.flatten(tree) for tree in drawn]
      chosen = [{path: leaves[i][path] for path in lacking[i]} for i in (0, 1)]
      return chosen, key, jnp.int32(0)

    with self.layout.activate():
      drawn, key, step = Program(
        draw,
        "drawing the weights",
        out_shardings=(drawn_shardings, replicated, replicated),
      )(np.uint32(seed))
      params, frozen = [
        trees.unflatten(drawn[i] | trees.place_flat(known[i], flat[i]))
        for i in (0, 1)
      ]
      opt_state = Program(
        self._transformation.init,
        "the optimizer's state",
        out_shardings=self.shardings.opt_state,
      )(params)
    return TrainState(
      step=step, params=params, frozen=frozen, opt_state=opt_state, key=key
    )

  def train_step(
    self, state: TrainState, batch: Batch | Sequence[Batch]
  ) -> tuple[TrainState, objectives.Metrics]:
    """One update; metrics stay on the device.

    A batch in microbatches of its own, of whatever shapes, is not divided again.
    """
    with self.layout.activate():
      rate = self._rate(state.step)
      if isinstance(batch, Batch):
        return self._train_step(state, batch, rate)
      return self._of_microbatches(batch[0])(state, batch, rate)

  def eval_step(self, state: TrainState, batch: Batch) -> objectives.Metrics:
    """Metrics of a batch, on the device."""
    with self.layout.activate():
      return self._eval_step(state, batch)

  def check_memory(self, batch: Batch | Sequence[Batch]) -> None:
    """Compiles the train step for batches of this shape, which is used later.

    Or for microbatches of all these shapes.

    Raises:
      OutOfMemory: it takes more than there is.
    """
    with self.layout.activate():
      if isinstance(batch, Batch):
        self._train_step.check(self.abstract, batch, self._abstract_rate)
      else:
        self._of_microbatches(batch[0]).check(
          self.abstract, batch, self._abstract_rate
        )

  def _of_microbatches(self, one: Batch) -> "_BucketedStep":
    if self._bucketed is None:
      self._bucketed = _BucketedStep(
        *(self.problem, self._build, self.layout, self.abstract),
        *(self._skips_broken, one),
      )
    return self._bucketed

  @property
  def _abstract_rate(self) -> jax.ShapeDtypeStruct:
    place = self.layout.replicated
    return jax.ShapeDtypeStruct((), jnp.float32, sharding=place)

  def trace_train_step(self, batch: Batch) -> jax.stages.Traced:
    """The train step for batches of this shape, neither lowered nor compiled."""
    with self.layout.activate():
      return self._train_step.trace(self.abstract, batch, self._abstract_rate)

  def check(self, num_contexts: int, rows_per_context: int | None = None):
    """Refuses a number of contexts that the mesh and microbatches do not divide.

    Of tasks side by side each must be there once, and microbatches divide its rows.

    Raises:
      ValueError: says which of these, and what would fit.
    """
    num_tasks, count = self.problem.num_tasks, self.num_microbatches
    if num_tasks > 1 and num_contexts != num_tasks:
      raise ValueError(
        f"a batch has {num_contexts} contexts; {num_tasks} tasks are trained "
        "side by side (AdapterFineTuning.num_tasks), each one context of it"
      )
    if num_tasks > 1 and (rows_per_context or count) % count:
      raise ValueError(
        f"NUM_MICROBATCHES is {count}; it must divide the {rows_per_context} rows "
        f"of each of {num_tasks} tasks side by side (BATCH_SIZE / NUM_TASKS)"
      )
    devices, count = self.layout.data_parallel, 1 if num_tasks > 1 else count
    if num_contexts % (devices * count):
      raise ValueError(
        f"a batch of {num_contexts} contexts does not divide over {devices} "
        f"data-parallel devices times {count} microbatches: it must be a multiple "
        f"of {devices * count}"
      )

  def _abstract(self, params: Any, frozen: Any) -> TrainState:
    """Shapes of the whole state, and where each array lives."""
    by_path = {
      _dict_path(path): param
      for path, param in jax.tree_util.tree_flatten_with_path(params)[0]
    }

    def everywhere(x: Any) -> jax.ShapeDtypeStruct:
      place = self.layout.replicated
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

    def of_slot(path, slot):
      # An optimizer's slots lie in trees shaped like params. Adafactor's
      # factored moments have other shapes, and are small.
      like = by_path.get(_dict_path(path))
      if like is None or slot.shape != like.shape:
        return everywhere(slot)
      return jax.ShapeDtypeStruct(
        slot.shape, slot.dtype, sharding=like.sharding
      )

    slots = jax.eval_shape(self._transformation.init, params)
    return TrainState(
      step=everywhere(jax.ShapeDtypeStruct((), jnp.int32)),
      params=params,
      frozen=frozen,
      opt_state=jax.tree_util.tree_map_with_path(of_slot, slots),
      key=everywhere(jax.eval_shape(lambda: jax.random.key(0))),
    )


class _BucketedStep:
  """A step over microbatches of different shapes.

  What adds the gradients of one is compiled for each shape, all else once.
  """

  def __init__(
    self,
    problem: Problem,
    build: update.Build,
    layout: sharding.Layout,
    state: TrainState,
    skips_broken: bool,
    one: Batch,
  ):
    """`state` and `one`, a microbatch, may stand for arrays."""
    self._sums = jax.eval_shape(
      functools.partial(update.zeros, problem=problem), state, one
    )
    given = jax.tree.map(lambda x: x.sharding, state)
    places = (layout.replicated, given.params, *[layout.replicated] * 2)
    self._summed_bytes = sharding.device_bytes(
      jax.tree.map(
        lambda x, like: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=like.sharding
        ),
        self._sums[1],
        state.params,
      )
    )
    self._zeros = Program(
      lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._sums),
      "the sums of gradients",
      out_shardings=places,
    )
    self._accumulate = Program(
      functools.partial(update.accumulate, problem=problem),
      "the gradients of a microbatch",
      in_shardings=(given, places, layout.batch),
      out_shardings=places,
      donate_argnums=1,
    )
    self._apply = Program(
      functools.partial(update.apply, build=build, skips_broken=skips_broken),
      "the optimizer's step",
      in_shardings=(given, places, layout.replicated),
      out_shardings=(given, layout.replicated),
      donate_argnums=0,
    )

  def __call__(
    self, state: TrainState, microbatches: Sequence[Batch], rate: jax.Array
  ) -> tuple[TrainState, objectives.Metrics]:
    sums = self._zeros()
    for each in microbatches:
      sums = self._accumulate(state, sums, each)
    return self._apply(state, sums, rate)

  def check(
    self, state: TrainState, microbatches: Sequence[Batch], rate: Any
  ) -> None:
    """Compiles it for microbatches of these shapes."""
    beside = self._summed_bytes
    for each in microbatches:
      self._accumulate.check(state, self._sums, each, beside=beside)
    self._apply.check(state, self._sums, rate, beside=beside)


def _check_divides(abstract: Any, layout: sharding.Layout) -> None:
  """Refuses a mesh that cuts a parameter unevenly, naming all it would."""
  leaves = [item for tree in abstract for item in trees.flatten(tree).items()]
  wrong = []
  for path, leaf in leaves:
    parts = layout.parts(leaf.sharding.spec)
    if any(size % n for size, n in zip(leaf.shape, parts, strict=False)):
      wrong.append(f"{path} {list(leaf.shape)} over {parts}")
  if wrong:
    raise ValueError(
      f"the mesh {dict(layout.mesh.shape)} (MeshSpec.axes) does not divide these "
      f"parameters ({layout.dividing(x for _, x in leaves)}):"
      f"{trees.listing(wrong)}"
    )


def _dict_path(path: tuple[Any, ...]) -> tuple[str, ...]:
  """The dictionary keys at the end of a leaf's path: the parameter's name."""
  keys = []
  for entry in reversed(path):
    if not isinstance(entry, jax.tree_util.DictKey):
      break
    keys.append(entry.key)
  return tuple(reversed(keys))
