"""Problems: what is trained, what is frozen, and how the T5 answers with it.

Besides hypertuning, what it is compared with: all weights fine-tuned, with or
without demonstrations in the input, and adapters that are trained themselves.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, checks, sharding, trees
from hyperjax.adapters import Adapters, Leaf, Spec
from hyperjax.batch import Batch
from hyperjax.models import (
  applying,
  forward,
  gathering,
  hypermodel,
  objectives,
  t5,
  teaching,
)
from hyperjax.models.hypermodel import HyperT5, HyperT5Config
from hyperjax.models.problem import Loss, Params, Problem, Smoothing
from hyperjax.models.t5_layers import T5Config


@dataclasses.dataclass(frozen=True)
class LanguageModel(Problem):
  """Trains a T5 itself: pretraining a backbone from scratch."""

  backbone: T5Config
  z_loss: checks.Weight = 0.0
  label_smoothing: Smoothing = 0.0

  def init(self, key: jax.Array) -> tuple[Params, Params]:
    return {"backbone": _init_t5(self.backbone, key)}, {}


@dataclasses.dataclass(frozen=True)
class FullFineTuning(Problem):
  """Trains all weights of a T5 on tasks, without adapters.

  With `reads_demonstrations` the encoder reads a context's demonstrations in
  front of each of its inputs, which is in-context learning; without, they are
  left unread.
  """

  backbone: T5Config
  reads_demonstrations: bool = False
  z_loss: checks.Weight = 0.0
  label_smoothing: Smoothing = 0.0

  def init(self, key: jax.Array) -> tuple[Params, Params]:
    return {"backbone": _init_t5(self.backbone, key)}, {}

  def read(self, batch: Batch) -> jax.Array:
    if not self.reads_demonstrations:
      return batch.encoder_input_tokens
    if batch.demonstrations is None:
      raise ValueError(
        "FullFineTuning.reads_demonstrations is True, but the data has no "
        "demonstrations; few-shot episodes have"
      )
    return forward.in_front(
      batch.demonstrations, batch.encoder_input_tokens, self.backbone.pad_id
    )


@dataclasses.dataclass(frozen=True)
class HyperTuning(Problem):
  """Trains a hypermodel that writes adapters for a frozen backbone.

  Both stages: on windows of text (hyperpretraining) and on few-shot episodes
  (multi-task fine-tuning). The frozen backbone runs without dropout. With
  `train_backbone` both are trained jointly. With a `teacher` the T5's answers are
  drawn to those of a T5 that has the demonstrations in its input. With `do_no_harm`
  they are held, so many times, to those of the T5 without adapters on the unrelated
  texts of a batch.
  """

  backbone: T5Config
  hypermodel: HyperT5Config
  adapters: Spec
  train_backbone: bool = False
  z_loss: checks.Weight = 0.0
  label_smoothing: Smoothing = 0.0
  teacher: teaching.Teacher | None = None
  do_no_harm: checks.Weight = 0.0

  reads_demonstrations = True
  has_adapters = True

  @property
  def joins_demonstrations(self) -> bool:
    return self.teacher is not None

  def __post_init__(self):
    super().__post_init__()
    self.hypermodel.check_fits(self.backbone, self.adapters)
    if self.train_backbone and self.hypermodel.reads_backbone:
      raise ValueError(
        "HyperTuning.train_backbone is True, which needs a hypermodel with a T5 "
        f"of its own: HyperT5Config.body is {self.hypermodel.body!r}, it must be "
        f"{hypermodel.COPY!r}"
      )
    if self.teacher is not None:
      self.teacher.check_fits(self.backbone, self.train_backbone)
    if self.do_no_harm and self.train_backbone:
      raise ValueError(
        f"HyperTuning.do_no_harm (DO_NO_HARM) is {self.do_no_harm}: it holds "
        "adapters to the T5 without them, which HyperTuning.train_backbone "
        "moves; it must be 0, or the backbone frozen"
      )

  def init(self, key: jax.Array) -> tuple[Params, Params]:
    hyper_key, backbone_key = jax.random.split(key)
    tokens_11 = jnp.ones((1, 1), jnp.int32)
    hyper_params = self._hypermodel.init(hyper_key, tokens_11)["params"]
    own = hypermodel.own(self.hypermodel, hyper_params)
    params, frozen = {"hypermodel": own}, {}
    backbone_params = _init_t5(self.backbone, backbone_key)
    (params if self.train_backbone else frozen)["backbone"] = backbone_params
    if self.teacher is not None and self.teacher.t5 is not None:
      teacher_key = jax.random.fold_in(backbone_key, 1)
      frozen[teaching.TEACHER] = _init_t5(self.teacher.t5, teacher_key)
    return params, frozen

  def loss(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> Loss:
    taught_BTV = None
    if self.teacher is not None:
      batch, taught_BTV = self.teacher.teach(
        self.backbone, params | frozen, batch
      )
    setting, logits_BTV = self._answer(params, frozen, batch, key)
    loss, weight, metrics = self._token_loss(logits_BTV, batch)
    further: dict[str, tuple[float, jax.Array]] = {}
    if self.teacher is not None and taught_BTV is not None:
      found_BT = objectives.divergence(taught_BTV, logits_BTV, self.teacher.top)
      own = (found_BT * batch.decoder_loss_weights).sum()
      further["teacher_divergence"] = self.teacher.weight, own
    if self.do_no_harm:
      drift = teaching.drift(self.backbone, setting, batch)
      further["drift"] = self.do_no_harm, drift
    for name, (times, total) in further.items():
      loss += times * total
      metrics |= {name: (total, weight), "loss": (loss, weight)}
    return loss, weight, metrics

  def _dropout_keys(
    self, key: jax.Array | None
  ) -> tuple[jax.Array | None, jax.Array | None]:
    if key is None:
      return None, None
    hyper_key, backbone_key = jax.random.split(key)
    # A frozen backbone drops nothing out.
    return hyper_key, backbone_key if self.train_backbone else None

  def read_by_write(self, params: Params, frozen: Params) -> Params:
    return params | frozen if self.hypermodel.reads_backbone else params

  def write(
    self, params: Params, demonstrations: Any, key: jax.Array | None = None
  ) -> Adapters:
    return self._apply(params, demonstrations, dropout_key=key)

  def encode(
    self, params: Params, demonstrations: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """What the hypermodel's decoder attends to: [C, S, D], and its mask [C, S]."""
    return self._apply(params, demonstrations, method="encode")

  def write_encoded(
    self, params: Params, encoded_CSD: jax.Array, mask_CS: jax.Array
  ) -> Adapters:
    """The adapters of each context, from what `encode` gave of it."""
    return self._apply(params, encoded_CSD, mask_CS, method="write")

  def _apply(self, params: Params, *args: Any, **options: Any) -> Any:
    own = params["hypermodel"]
    if self.hypermodel.reads_backbone:
      own = hypermodel.whole(self.hypermodel, own, params["backbone"])
    config = self.hypermodel.t5
    return applying.apply(self._hypermodel, config, own, *args, **options)

  @property
  def _hypermodel(self) -> HyperT5:
    return HyperT5(self.hypermodel, self.adapters, self.backbone)


@dataclasses.dataclass(frozen=True)
class AdapterFineTuning(Problem):
  """Trains adapters themselves, by back-propagation through a frozen backbone.

  One adapter serves every context of a batch, unless there are several
  `num_tasks`: then each has its own, context i of every batch is task i, and
  each is trained as if it were alone. Arrays are trained as they act: a LoRA's
  scale is inside `up`, so its learning rate is not divided by it.
  """

  backbone: T5Config
  adapters: Spec
  num_tasks: checks.Count = 1
  z_loss: checks.Weight = 0.0
  label_smoothing: Smoothing = 0.0

  has_adapters = True

  def init(self, key: jax.Array) -> tuple[Params, Params]:
    adapters_key, backbone_key = jax.random.split(key)
    leaves = adapters.as_params(self.adapters.leaves(self.backbone))
    flat = trees.flatten(leaves)
    keys = jax.random.split(adapters_key, len(flat))
    drawn = {
      path: self._draw(leaf, leaf_key)
      for (path, leaf), leaf_key in zip(flat.items(), keys, strict=True)
    }
    frozen = {"backbone": _init_t5(self.backbone, backbone_key)}
    return {"adapters": trees.unflatten(drawn)}, frozen

  def _draw(self, leaf: Leaf, key: jax.Array) -> Any:
    """One leaf at random, the same for every task: only their data differ."""
    value = leaf.mean + leaf.stddev * jax.random.normal(key, leaf.shape)
    value = jnp.repeat(value, self.num_tasks, leaf.axes.index(sharding.BATCH))
    return nn.LogicallyPartitioned(value, self._names(leaf))

  def _names(self, leaf: Leaf) -> tuple[str | None, ...]:
    """The axes of a leaf: one for all contexts is on every device."""
    return leaf.parameter_axes if self.num_tasks == 1 else leaf.axes

  def write(
    self, params: Params, demonstrations: Any, key: jax.Array | None = None
  ) -> Adapters:
    del demonstrations, key
    leaves = self.adapters.leaves(self.backbone)
    own = adapters.from_params(params["adapters"], leaves)
    if self.num_tasks > 1:
      return own  # each on the devices of its context
    return jax.tree.map(
      lambda x, leaf: gathering.gathered(x, x.dtype, self._names(leaf)),
      own,
      leaves,
    )

  def _dropout_keys(
    self, key: jax.Array | None
  ) -> tuple[jax.Array | None, jax.Array | None]:
    del key  # a frozen backbone drops nothing out
    return None, None

  def loss(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> Loss:
    """Of several tasks the sum of their mean losses, which has weight 1.

    So the gradient of a task's adapter is that of its own mean loss, however
    many target tokens the others have.
    """
    whole = self.in_parts(batch, 1)
    return self.loss_of_part(params, frozen, whole, key)

  def in_parts(self, batch: Batch, count: int) -> Batch:
    """Weights of several tasks' tokens are such that each task's sum to `count`."""
    if self.num_tasks == 1:
      return batch
    weights_CN = batch.decoder_loss_weights.reshape(self.num_tasks, -1)
    total_C1 = weights_CN.sum(axis=1, keepdims=True)
    weights_CN = count * weights_CN / jnp.where(total_C1 > 0, total_C1, 1.0)
    shared = weights_CN.reshape(batch.decoder_loss_weights.shape)
    return dataclasses.replace(batch, decoder_loss_weights=shared)

  def loss_of_part(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> Loss:
    loss, weight, metrics = super().loss(params, frozen, batch, key)
    if self.num_tasks > 1:
      weight = jnp.float32(1)
    return loss, weight, metrics


# Every one there is: files name a problem by its class.
PROBLEMS: tuple[type[Problem], ...] = (
  LanguageModel,
  FullFineTuning,
  HyperTuning,
  AdapterFineTuning,
)


def _init_t5(config: T5Config, key: jax.Array) -> Params:
  tokens_11 = jnp.ones((1, 1), jnp.int32)
  return t5.T5(config).init(key, tokens_11, tokens_11)["params"]
