"""What a run trained, from its checkpoint alone: without gin, without its data.

A checkpoint's origin says which hypermodel it is of and which backbone that was
trained for; since runs also write how they read text, that is all it takes to
use one.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from hyperjax import adapters, checkpoints, described, initial, trees
from hyperjax.batch import Lengths
from hyperjax.data import files, vocabulary
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.interop import weights
from hyperjax.models import hypermodel, problems, t5_layers

_SMALL = 1 << 17  # elements of an array that an identity covers


@dataclasses.dataclass(frozen=True)
class Trained:
  """A hypermodel's run at its last checkpoint; no array is read yet."""

  folder: pathlib.Path
  step: int
  problem: problems.HyperTuning
  named: Mapping[str, Any]  # the frozen backbone: source, identity, step
  lengths: Lengths
  instruction_readers: Sequence[str]  # of `instructions.READERS`
  vocabulary: SentencePiece


def open_run(
  path: str, vocabulary_path: str | None = None, setting: str = "--model"
) -> Trained:
  """The run in a folder.

  Args:
    path: of the run.
    vocabulary_path: where its tokenizer lies, if neither in the run nor where
      it was; it must be the same one.
    setting: which `path` is, for messages.

  Raises:
    ValueError: there is no run, it trained no hypermodel, or lacks something.
  """
  files.check_local(path, setting)
  folder = pathlib.Path(path).expanduser().absolute()
  if not folder.is_dir():
    raise ValueError(f"{setting} {path}: there is no such folder")
  found = initial.run_origin(folder)
  if found is None:
    raise ValueError(
      f"{setting} {path} is no run: it has no checkpoint in "
      f"{initial.CHECKPOINTS}/"
    )
  step, origin = found
  if origin["problem"] != problems.HyperTuning.__name__:
    raise ValueError(
      f"{setting} {path} is a run of {origin['problem']}, which trains no "
      "hypermodel"
    )
  if not origin["backbone"] and not origin["configuration"]["train_backbone"]:
    raise ValueError(
      f"{setting} {path}: its frozen backbone was random and is not saved"
    )
  reads = origin.get("reads")
  if reads is None:
    raise ValueError(
      f"{setting} {path} does not say how it reads text, since an earlier "
      "version wrote it: train it on for a few steps with this one"
    )
  return Trained(
    folder,
    step,
    _hypertuning(origin, f"{setting} {path}"),
    origin["backbone"],
    Lengths(**reads["lengths"]),
    tuple(reads["instruction_readers"]),
    _vocabulary(folder, reads["vocabulary"], vocabulary_path, setting),
  )


def load_params(run: Trained) -> dict[str, Any]:
  """What the run trained, on the first device.

  Raises:
    ValueError: the checkpoint is of another model.
  """
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  key = jax.random.key(0)
  params, _ = nn.meta.unbox(jax.eval_shape(run.problem.init, key))
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), params
  )
  saver = checkpoints.Checkpoints(
    run.folder / initial.CHECKPOINTS, read_only=True
  )
  try:
    return saver.restore_params(run.step, abstract)
  finally:
    saver.close()


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
    params: what the run trained; needed where the backbone is part of it.
    moved: where a frozen backbone lies now, if it has moved.

  Raises:
    ValueError: it is not there, or has changed since.
  """
  if not run.problem.train_backbone:
    loaded = initial.named_backbone(run.named, run.problem.backbone, moved)
    device = jax.devices()[0]
    return jax.device_put(loaded, device), run.named["identity"]
  assert params is not None
  source = weights.from_params(
    str(run.folder), run.problem.backbone, params["backbone"]
  )
  loaded = weights.load(source, run.problem.backbone)
  return params["backbone"], loaded.identity


def _hypertuning(origin: Mapping[str, Any], where: str) -> problems.HyperTuning:
  """The problem whose `described.describe` an origin holds."""
  fields = dict(origin["configuration"])
  hyper = dict(fields.pop("hypermodel"))
  kinds = {kind.__name__: kind for kind in adapters.SPECS}
  spec, config = fields.pop("adapters"), fields.pop("backbone")
  own_t5 = described.restore(t5_layers.T5Config, hyper.pop("t5"), where)
  return problems.HyperTuning(
    backbone=described.restore(t5_layers.T5Config, config, where),
    hypermodel=hypermodel.HyperT5Config(own_t5, **hyper),
    adapters=described.restore(kinds[origin["adapters"]], spec, where),
    **fields,
  )


def _vocabulary(
  folder: pathlib.Path,
  description: Mapping[str, Any] | None,
  path: str | None,
  setting: str,
) -> SentencePiece:
  """The tokenizer that a run was trained with; text means nothing without it."""
  if description is None or description.get("kind") != "sentencepiece":
    raise ValueError(
      f"{setting} {folder} was trained on tokens of no single SentencePiece "
      "model, so text cannot be read as in training"
    )
  if path is None:
    own = folder / initial.VOCABULARY
    try:
      found = vocabulary.open_described(description, own)
    except ValueError as error:
      raise ValueError(f"{error}; --vocabulary says where it is") from error
    assert found is not None  # it is SentencePiece
    return found
  if not pathlib.Path(path).is_file():
    raise ValueError(f"--vocabulary {path}: there is no such file")
  given = SentencePiece(path, description["extra_ids"])
  if given.identity != description["identity"]:
    raise ValueError(
      f"--vocabulary {path} is not the tokenizer of {folder}: its identity is "
      f"{given.identity[:16]}, the run's {description['identity'][:16]}"
    )
  return given
