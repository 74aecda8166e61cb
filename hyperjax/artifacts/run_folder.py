"""What a run trained, from its checkpoint alone: without gin, without its data.

A checkpoint's origin says what it is of and which backbone that was trained for;
since runs also write how they read text, that is all it takes to use one.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.artifacts import config_json, restore, run_record
from hyperjax.batch import Lengths
from hyperjax.data import vocabulary
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.interop import weights
from hyperjax.models import hypermodel, problems, t5_layers

_SMALL = 1 << 17  # elements of an array that an identity covers


@dataclasses.dataclass(frozen=True)
class Found:
  """A run's folder, and what a checkpoint of it says; no array is read."""

  shown: str  # how it was asked for, for messages
  folder: pathlib.Path
  step: int
  origin: Mapping[str, Any]

  @property
  def problem(self) -> str:
    """The name of what it trains, a class of `models.problems`."""
    return self.origin["problem"]

  @property
  def reads(self) -> Mapping[str, Any]:
    """How it reads text, as `origins.reads`.

    Raises:
      ValueError: it does not say.
    """
    reads = self.origin.get("reads")
    if reads is None:
      raise ValueError(
        f"{self.shown} does not say how it reads text, since an earlier "
        "version wrote it: train it on for a few steps with this one"
      )
    return reads

  @property
  def backbone(self) -> Mapping[str, Any]:
    """Source, identity and step of the T5 that it began with, or has frozen.

    Raises:
      ValueError: it is frozen, and not to be had again.
    """
    named = self.origin["backbone"]
    if not named and not run_record.trains_t5(self.origin):
      raise ValueError(
        f"{self.shown}: its frozen backbone was random and is not saved"
      )
    return named


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run at one of its checkpoints, ready to be used; no array is read yet."""

  folder: pathlib.Path
  step: int
  problem: Any  # a `problems.Problem`, as `Found.problem` says
  named: Mapping[str, Any]  # the backbone: source, identity, step
  lengths: Lengths
  instruction_readers: Sequence[str]  # of `instructions.READERS`
  vocabulary: SentencePiece
  trains_t5: bool  # so that `named` is what its T5 began with


def find(path: str, setting: str = "--model", step: int | None = None) -> Found:
  """The run in a folder, of whatever it trains.

  Args:
    path: of the run.
    setting: which `path` is, for messages.
    step: of a checkpoint; by default the last.

  Raises:
    ValueError: there is no run, or no such checkpoint of it.
  """
  folder = restore.existing(path, setting)
  found = look(folder, f"{setting} {path}", step)
  if found is None:
    raise ValueError(
      f"{setting} {path} is no run: it has no checkpoint in "
      f"{restore.CHECKPOINTS}/"
    )
  return found


def look(
  folder: pathlib.Path, shown: str, step: int | None = None
) -> Found | None:
  """The run in a folder that is there, None if it is none; else as `find`."""
  found = restore.run_origin(folder, step)
  return None if found is None else Found(shown, folder, *found)


def open_run(
  path: str, vocabulary_path: str | None = None, setting: str = "--model"
) -> Trained:
  """The hypermodel's run in a folder.

  Args:
    path: of the run.
    vocabulary_path: where its tokenizer lies, if neither in the run nor where
      it was; it must be the same one.
    setting: which `path` is, for messages.

  Raises:
    ValueError: there is no run, it trained no hypermodel, or lacks something.
  """
  found = find(path, setting)
  if found.problem != problems.HyperTuning.__name__:
    raise ValueError(
      f"{found.shown} is a run of {found.problem}, which trains no hypermodel"
    )
  return read(found, vocabulary_path)


def read(found: Found, vocabulary_path: str | None = None) -> Trained:
  """A run with its tokenizer.

  Raises:
    ValueError: it does not say how it reads text, or lacks its tokenizer.
  """
  named, reads = found.backbone, found.reads
  return Trained(
    found.folder,
    found.step,
    problem_of(found.origin, found.shown),
    named,
    Lengths(**reads["lengths"]),
    tuple(reads["instruction_readers"]),
    tokenizer(found, vocabulary_path),
    run_record.trains_t5(found.origin),
  )


def check_moved(run: Trained, moved: str | None) -> None:
  """Refuses to look elsewhere for a T5 that a run has trained itself.

  Raises:
    ValueError: as it says.
  """
  if run.trains_t5 and moved:
    raise ValueError(
      f"--backbone {moved}: the T5 of {run.folder} was trained in that run, "
      "and is part of it"
    )


def load_params(
  folder: pathlib.Path, step: int, problem: problems.Problem
) -> dict[str, Any]:
  """What a run trained, on the first device.

  Raises:
    ValueError: the checkpoint is of another model.
  """
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  params, _ = nn.meta.unbox(jax.eval_shape(problem.init, jax.random.key(0)))
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), params
  )
  return restore.restored(folder, step, abstract)


def identity(run: Trained, params: Mapping[str, Any]) -> str:
  """Which hypermodel it is, wherever its run lies.

  A hash of the step, all shapes, and the values of small arrays: norms, position
  biases, slots. Training moves all of these at once with the others, to hash
  which would take as long as to restore them.
  """
  digest = hashlib.sha256(f"step {run.step}".encode())
  for path, leaf in sorted(trees.flatten(params["hypermodel"]).items()):
    digest.update(f" {path} {leaf.dtype} {leaf.shape} ".encode())
    if leaf.size <= _SMALL:
      digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
  return digest.hexdigest()


def load_backbone(
  run: Trained, params: Mapping[str, Any] | None, moved: str | None
) -> tuple[Any, str]:
  """The T5 that answers, on the first device, and its identity.

  Args:
    run: whose backbone.
    params: what the run trained, if that is at hand.
    moved: where a frozen backbone lies now, if it has moved.

  Raises:
    ValueError: it is not there, or has changed since.
  """
  config, device = run.problem.backbone, jax.devices()[0]
  if not run.trains_t5:
    loaded = restore.named_backbone(run.named, config, moved)
    return jax.device_put(loaded, device), run.named["identity"]
  if params is None:
    own = weights.load(restore.open_t5(run.folder, run.step), config)
    return jax.device_put(own.params, device), own.identity
  source = weights.from_params(str(run.folder), config, params["backbone"])
  return params["backbone"], weights.load(source, config).identity


def problem_of(origin: Mapping[str, Any], where: str) -> problems.Problem:
  """The problem whose `described.describe` an origin holds."""
  fields = dict(origin["configuration"])
  kinds = {kind.__name__: kind for kind in problems.PROBLEMS}
  kind: Any = kinds[origin["problem"]]
  fields["backbone"] = config_json.restore(
    t5_layers.T5Config, fields["backbone"], where
  )
  if "adapters" in fields:
    specs = {spec.__name__: spec for spec in adapters.SPECS}
    spec = specs[origin["adapters"]]
    fields["adapters"] = config_json.restore(spec, fields["adapters"], where)
  if "hypermodel" in fields:
    hyper = dict(fields["hypermodel"])
    own_t5 = config_json.restore(t5_layers.T5Config, hyper.pop("t5"), where)
    fields["hypermodel"] = hypermodel.HyperT5Config(own_t5, **hyper)
  return kind(**fields)


def tokenizer(found: Found, path: str | None = None) -> SentencePiece:
  """The tokenizer that a run was trained with; text means nothing without it.

  Args:
    found: the run.
    path: where it lies, if neither in the run nor where it was.

  Raises:
    ValueError: it is not there, or another one is.
  """
  description = found.reads["vocabulary"]
  if description is None or description.get("kind") != "sentencepiece":
    raise ValueError(
      f"{found.shown} was trained on tokens of no single SentencePiece "
      "model, so text cannot be read as in training"
    )
  if path is None:
    own = found.folder / restore.VOCABULARY
    try:
      opened = vocabulary.open_described(description, own)
    except ValueError as error:
      raise ValueError(f"{error}; --vocabulary says where it is") from error
    assert opened is not None  # it is SentencePiece
    return opened
  if not pathlib.Path(path).is_file():
    raise ValueError(f"--vocabulary {path}: there is no such file")
  given = SentencePiece(path, description["extra_ids"])
  if given.identity != description["identity"]:
    raise ValueError(
      f"--vocabulary {path} is not the tokenizer of {found.folder}: its identity is "
      f"{given.identity[:16]}, the run's {description['identity'][:16]}"
    )
  return given
