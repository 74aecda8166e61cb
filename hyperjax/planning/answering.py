"""The programs of an evaluation, and of `predict`: adapters written, then answers."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hyperjax import paths, runs, sharding
from hyperjax.artifacts import config_json, restore
from hyperjax.batch import Batch, Lengths
from hyperjax.evaluation import batching, rank
from hyperjax.evaluation.asked import Asked
from hyperjax.models import decoding, forward, quantizing
from hyperjax.models.problems import Problem
from hyperjax.planning.jobs import Job
from hyperjax.scores import columns
from hyperjax.trainer import abstract_params

# What stands for a checkpoint in a plan without one.
_NO_CHECKPOINT = "unused"
_CHOICES = 4  # answers of a row, where they are chosen: only data says how many


def of_evaluation(run: runs.Evaluate, devices: Sequence[Any]) -> list[Job]:
  """What an evaluation computes, at its own batch on `devices`.

  Raises:
    ValueError: nothing says what is evaluated, or the mesh does not suit it.
  """
  problem, reads = run.problem, None
  if problem is None:
    folder = paths.at(run.checkpoint)
    found = restore.recorded(folder) if folder.is_dir() else None
    if found is None and run.checkpoint != _NO_CHECKPOINT:
      raise ValueError(
        f"CHECKPOINT_PATH {run.checkpoint} is no run, so nothing says what is "
        "evaluated"
      )
    if found is None:
      raise ValueError(
        "nothing says what is evaluated: give --gin.CHECKPOINT_PATH=RUN, or "
        "--gin_file=adapters/lora.gin and --gin_file=models/t5_1_1_large.gin "
        "after the run's file"
      )
    problem = config_json.problem(found[1].problem, run.checkpoint)
    reads = found[1].reads
  problem = quantizing.of_backbone(problem, run.quantization)
  layout = run.mesh.build(devices)
  jobs: dict[str, Job] = {}
  for evaluation in run.evaluations:
    asked = evaluation.filled(reads)
    for job in _Programs(problem, layout, asked).jobs():
      jobs.setdefault(f"{job.what} {job.batch}", job)
  return list(jobs.values())


class _Programs:
  """Those of one evaluation."""

  def __init__(self, problem: Problem, layout: sharding.Layout, asked: Asked):
    self._problem, self._layout, self._asked = problem, layout, asked
    self._lengths = Lengths.from_features(asked.feature_lengths)
    params, frozen = abstract_params(problem, layout)
    self._params, self._frozen = params, frozen
    self._budget = batching.Budget(asked.tokens_per_batch, layout.data_parallel)
    self._contexts = self._budget.contexts(
      self._lengths.read_tokens, layout.padded(asked.contexts_per_batch)
    )

  def jobs(self) -> list[Job]:
    """Answers first, which take longest."""
    controls, problem = self._asked.controls, self._problem
    length = self._lengths.inputs
    if problem.reads_demonstrations and not problem.has_adapters:
      length += self._lengths.read_tokens
    found = [self._answers("answering", length, problem.has_adapters)]
    if problem.reads_demonstrations and problem.has_adapters:
      if columns.IN_INPUT in controls:
        what = "answering with demonstrations in the input"
        longer = length + self._lengths.read_tokens
        found.append(self._answers(what, longer, False))
      found.append(self._writing())
    return found

  def _demonstrations(self, contexts: int) -> Any:
    shape = (contexts, self._lengths.demonstrations)
    if self._lengths.are_separate:
      shape = (contexts, self._lengths.num_demonstrations, shape[1])
    return self._ids(*shape)

  def _together(
    self, length: int, outputs: int, is_adapted: bool, has_own: bool
  ) -> batching.Together:
    """The rows that the evaluation would answer at once, of the longest."""
    shape = batching.Shape(outputs, self._lengths.targets, length)
    budget = self._budget
    if is_adapted:
      budget = budget.under(getattr(self._problem, "adapters", None))
    # No more rows than a batch holds: all of a task would be millions.
    enough = batching.most_rows(budget, shape, self._contexts)
    most = min(self._asked.max_targets or enough, enough)
    rows = [
      batching.Row(context, i, shape)
      for context in range(self._contexts)
      for i in range(most)
    ]
    return next(batching.together(rows, budget, has_own))

  def _ids(self, *shape: int) -> jax.ShapeDtypeStruct:
    place = self._layout.batch
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place)

  def _adapters(self, contexts: int) -> Any:
    """What is written of each context, where the hypermodel leaves it."""
    written = jax.eval_shape(
      lambda params, read: self._problem.write(params, read),
      self._problem.read_by_write(self._params, self._frozen),
      self._demonstrations(contexts),
    )

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
      is_own = leaf.shape[1] == contexts > 1
      place = self._layout.contexts if is_own else self._layout.replicated
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return jax.tree.map(placed, written)

  def _answers(self, what: str, length: int, has_own: bool) -> Job:
    """Rows answered together, under adapters of their own contexts or none."""
    config, most = self._problem.backbone, self._lengths.targets
    decoder = self._asked.decoder
    is_ranked = isinstance(decoder, rank.Rank)
    # One trained adapter is every row's: nothing of it is a context's own.
    is_read = has_own and self._problem.reads_demonstrations
    outputs = _CHOICES if is_ranked else decoding.num_beams(decoder)
    together = self._together(length, outputs, has_own, is_read)
    num_rows = len(together.rows)
    backbone, beside = self._used({"backbone"})
    setting = forward.Setting(backbone["backbone"], self._ids(num_rows, length))
    held = {"weights_trained": self._params, "weights_frozen": self._frozen}
    if has_own:
      own = self._adapters(len(together.contexts))
      # Those of all contexts are kept until their last row is answered.
      kept = self._adapters(self._contexts)
      setting = setting._replace(adapters=own)
      held, beside = held | {"adapters": (own, kept)}, (beside, kept)
    if is_ranked:
      what = f"{what}, {_CHOICES} choices a row"
      targets = self._ids(num_rows * _CHOICES, most)
      program = jax.jit(
        functools.partial(forward.log_likelihood, config),
        out_shardings=self._layout.replicated,
      )
      trace = functools.partial(program.trace, setting, targets)
    else:
      program = jax.jit(
        functools.partial(
          forward.decode, config, max_length=most, decoder=decoder
        ),
        out_shardings=self._layout.replicated,
      )
      trace = functools.partial(program.trace, setting)
    of_row = most * (_CHOICES if is_ranked else 1)
    targets = self._ids(num_rows, of_row)
    batch = Batch(setting.tokens, targets, targets, targets)
    return self._job(what, trace, held, batch, {"backbone"}, beside, most)

  def _used(self, names: Collection[str]) -> tuple[Any, Any]:
    """Parameters of these names, and all others, which lie beside them."""
    whole = self._params | self._frozen
    used = {name: own for name, own in whole.items() if name in names}
    return used, {name: whole[name] for name in whole if name not in names}

  def _writing(self) -> Job:
    """The adapters of a batch's contexts."""
    problem = self._problem
    program = jax.jit(lambda params, read: problem.write(params, read))
    shown = self._demonstrations(self._contexts)
    held = {"weights_trained": self._params, "weights_frozen": self._frozen}
    names = problem.read_by_write({"hypermodel": 1}, {"backbone": 1})
    used, beside = self._used(names.keys())
    trace = functools.partial(program.trace, used, shown)
    # A context, and nothing that is read or answered of it.
    none = self._ids(self._contexts, 0)
    batch = Batch(none, none, none, none, shown)
    uses = {"hypermodel"}
    return self._job("writing adapters", trace, held, batch, uses, beside)

  def _job(
    self,
    what: str,
    trace: Callable[[], jax.stages.Traced],
    held: Any,
    batch: Batch,
    uses: Collection[str],
    beside: Any,
    turns: int | None = None,
  ) -> Job:
    def active() -> jax.stages.Traced:
      with self._layout.activate():
        return trace()

    return Job(
      what,
      active,
      self._layout,
      held,
      self._problem,
      batch,
      trains=False,
      beside=beside,
      turns=turns,
      uses=frozenset(uses),
    )
