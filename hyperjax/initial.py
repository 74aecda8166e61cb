"""Where initial weights come from: what INITIAL_CHECKPOINT_PATH may name.

- a T5 of another program (`interop.sources`: a Hugging Face folder or a t5x
  checkpoint, the latter also in a bucket), or a run that trained a T5: it is
  the backbone, and the hypermodel's encoder, decoder and embeddings begin as
  its copy wherever shapes agree;
- a run that trained a hypermodel: that hypermodel, and the backbone it was
  trained for, found where that run found it.
"""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from hyperjax import checkpoints, trees
from hyperjax.data import files
from hyperjax.interop import sources, weights
from hyperjax.models import problems, t5_layers
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Initial:
  """Given parameters, and what a run's checkpoints say of them."""

  params: dict[str, Any]  # partial: the rest is drawn
  frozen: dict[str, Any]  # whole, or empty where the problem freezes nothing
  # {"source": path, "identity": hash, "step": of a run or None}, or {}
  backbone: dict[str, Any]
  step: int | None = None  # of the run that was loaded


# What may change from one part of a run to the next, or from stage to stage:
# how arrays are computed and stored, and what only training knows.
_FREE = (
  "dtype",
  "param_dtype",
  "remat",
  "scan_unroll",
  "dropout_rate",
  "z_loss",
  "label_smoothing",
  "key_stddev",
  "value_stddev",
)


def origin(
  problem: Any, initial: Initial, data: Mapping[str, Any]
) -> dict[str, Any]:
  """What a run writes into its checkpoints about what it trains.

  `data` is what gives a position in the data its meaning.
  """
  return {
    "problem": type(problem).__name__,
    "configuration": _described(problem),
    "backbone": initial.backbone,
    "data": dict(data),
  }


def check_same(
  facts: Mapping[str, Any],
  problem: Any,
  where: str,
  data: Mapping[str, Any] | None = None,
) -> None:
  """Refuses a checkpoint whose arrays would fit but mean something else.

  Raises:
    ValueError: settings differ; all are listed.
  """
  before = {"problem": facts["problem"], **_flat(facts["configuration"])}
  now = {"problem": type(problem).__name__, **_flat(_described(problem))}
  if data is not None:
    before |= _flat(facts["data"])
    now |= _flat(data)
  wrong = [
    f"{name} was {before.get(name)!r}, is now {now.get(name)!r}"
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
    and name.rpartition(".")[2] not in _FREE
  ]
  if wrong:
    raise ValueError(
      f"{where} was made with other settings:{trees.listing(wrong)}"
    )


def _described(problem: Any) -> dict[str, Any]:
  return json.loads(json.dumps(dataclasses.asdict(problem)))


def _flat(described: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in described.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def load(
  path: str | None,
  trainer: Trainer,
  backbone: str | None = None,
  setting: str = "INITIAL_CHECKPOINT_PATH",
) -> Initial:
  """The weights that `path` gives a trainer's problem.

  Args:
    path: see above; None draws everything at random.
    trainer: whose problem and shapes.
    backbone: where the backbone of a hypermodel's run lies now, if it moved.
    setting: which `path` is, for messages.

  Raises:
    ValueError: nothing usable is there, or it is of another model.
  """
  problem = trainer.problem
  if path is None:
    if trainer.abstract.frozen:
      _log.warning("%s is None: the frozen backbone is random", setting)
    return Initial({}, {}, {})
  step = None
  if isinstance(path, str) and sources.is_remote(path):
    source = sources.open_source(path)
  else:
    files.check_local(path, setting)
    folder = pathlib.Path(path).expanduser().absolute()
    if not folder.is_dir():
      raise ValueError(f"{setting} {path}: there is no such folder")
    run = _run_origin(folder)
    step = None if run is None else run[0]
    if run is not None and run[1]["problem"] != problems.LanguageModel.__name__:
      return _from_hypermodel(folder, *run, trainer, backbone)
    source = open_t5(folder)
  config = problem.backbone
  if isinstance(problem, problems.HyperTuning):
    # The hypermodel begins as a copy: not of weights rounded for the backbone.
    dtype = problem.hypermodel.t5.param_dtype
    config = dataclasses.replace(config, param_dtype=dtype)
  loaded = weights.load(source, config)
  named = {"source": source.path, "identity": loaded.identity, "step": step}
  if not isinstance(problem, problems.HyperTuning):
    return Initial({"backbone": loaded.params}, {}, named, step)
  copied = _agreeing(loaded.params, trainer.abstract.params["hypermodel"])
  if problem.hypermodel.bidirectional_slots:
    # Its buckets mean other distances than the checkpoint's.
    copied.get("decoder", {}).pop("relpos_bias", None)
  params = {"hypermodel": copied}
  if problem.train_backbone:
    return Initial(params | {"backbone": loaded.params}, {}, named, step)
  return Initial(params, {"backbone": loaded.params}, named, step)


def frozen_again(
  origin_facts: Mapping[str, Any], trainer: Trainer, backbone: str | None
) -> Any:
  """The frozen weights that a checkpoint of a run with `origin_facts` needs.

  Raises:
    ValueError: they are not where they were, or have changed since.
  """
  if not trainer.abstract.frozen:
    return {}
  named = origin_facts["backbone"]
  if not named:
    return None  # random ones: drawn again from the seed
  source = backbone or named["source"]
  if sources.is_remote(source):
    opened = sources.open_source(source)
  elif pathlib.Path(source).is_dir():
    step = None if backbone else named.get("step")
    opened = open_t5(pathlib.Path(source), step)
  else:
    raise ValueError(
      f"the backbone of this run was {source}, which is not there; if it has "
      "moved, say where with BACKBONE_PATH"
    )
  loaded = weights.load(opened, trainer.problem.backbone)
  if loaded.identity != named["identity"]:
    raise ValueError(
      f"{source} is not the backbone of this run: its weights hash to "
      f"{loaded.identity[:16]}, the run's to {named['identity'][:16]}"
    )
  return {"backbone": loaded.params}


def open_t5(folder: pathlib.Path, step: int | None = None) -> weights.T5Source:
  """The T5 in a folder: another program's, or a run that trained one.

  Args:
    folder: of the T5.
    step: of the run; by default its last.

  Raises:
    ValueError: it is neither, or that step is no longer kept.
  """
  run = None if sources.formats(folder) else _run_origin(folder)
  if run is None:
    return sources.open_source(folder)
  last, facts = run
  if facts["problem"] != problems.LanguageModel.__name__:
    raise ValueError(f"{folder} is a run of {facts['problem']}, not of a T5")
  saved = facts["configuration"]["backbone"]
  saved["mlp_activations"] = tuple(saved["mlp_activations"])
  config = t5_layers.T5Config(**saved)
  # This process's own: of several, each reads the weights for itself.
  cpu = jax.local_devices(backend="cpu")[0]
  host = jax.sharding.SingleDeviceSharding(cpu)
  abstract = trees.unflatten(
    {
      path: jax.ShapeDtypeStruct(shape, config.param_dtype, sharding=host)
      for path, shape in weights.parameter_shapes(config).items()
    }
  )
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  try:
    wanted = last if step is None else step
    if wanted not in saver.steps():
      raise ValueError(
        f"{folder} keeps the steps {saver.steps()}; step {wanted}, which the "
        "hypermodel was trained with, is gone"
      )
    params = saver.restore_params(wanted, {"backbone": abstract})
  finally:
    saver.close()
  return weights.from_params(str(folder), config, params["backbone"])


def _from_hypermodel(
  folder: pathlib.Path,
  step: int,
  facts: Mapping[str, Any],
  trainer: Trainer,
  backbone: str | None,
) -> Initial:
  if not isinstance(trainer.problem, problems.HyperTuning):
    raise ValueError(
      f"{folder} is a run of {facts['problem']}; this one trains a "
      f"{type(trainer.problem).__name__}, which takes a T5"
    )
  check_same(facts, trainer.problem, str(folder))
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  params = saver.restore_params(step, trainer.abstract.params)
  saver.close()
  frozen = frozen_again(facts, trainer, backbone)
  if frozen is None:
    raise ValueError(f"the backbone of {folder} was random and is not saved")
  named = dict(facts["backbone"])
  if backbone:
    if not sources.is_remote(backbone):
      backbone = str(pathlib.Path(backbone).absolute())
    named |= {"source": backbone, "step": None}
  return Initial(params, frozen, named, step)


def _run_origin(folder: pathlib.Path) -> tuple[int, dict[str, Any]] | None:
  """Last step of a run folder and its origin; None where it is no run."""
  if not (folder / CHECKPOINTS).is_dir():
    return None
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  try:
    step = saver.latest()
    return None if step is None else (step, saver.facts(step).origin)
  finally:
    saver.close()


def _agreeing(given: dict[str, Any], wanted: Any) -> dict[str, Any]:
  """The given parameters that have a namesake of the same shape."""
  flat = trees.flatten(given)
  shapes = trees.flatten(wanted)
  copied = {
    path: array
    for path, array in flat.items()
    if path in shapes and shapes[path].shape == array.shape
  }
  _log.log(
    logging.INFO if copied else logging.WARNING,
    "hypermodel: %d of %d arrays begin as the backbone's, the others are new",
    len(copied),
    len(shapes),
  )
  return trees.unflatten(copied)
