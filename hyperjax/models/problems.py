"""Problems: what is trained, what is frozen, and how the T5 answers with it.

Besides hypertuning, what it is compared with: all weights fine-tuned, with or
without demonstrations in the input, and adapters that are trained themselves.
"""

import abc
import dataclasses
from typing import Annotated, Any

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
)
from hyperjax.models.hypermodel import HyperT5, HyperT5Config
from hyperjax.models.t5_layers import T5Config

Params = Any
_Smoothing = Annotated[float, checks.Number(least=0, below=1)]
Loss = tuple[jax.Array, jax.Array, objectives.Metrics]


class Problem(abc.ABC):
  """What a Trainer trains: a frozen dataclass with the fields below.

  A problem says how its parameters begin, what the T5 reads and which adapters
  it gets; loss, decoding and ranking (`models.forward`) follow from that.
  """

  backbone: T5Config  # the T5 that answers
  z_loss: checks.Weight
  label_smoothing: _Smoothing

  # What the controls of an evaluation can change.
  reads_demonstrations = False
  has_adapters = False
  # Whose parameters are trained side by side: context i of a batch is task i.
  num_tasks = 1

  def __post_init__(self):
    checks.fields(self)

  @abc.abstractmethod
  def init(self, key: jax.Array) -> tuple[Params, Params]:
    """`(params, frozen)`, with their logical axes as flax boxes."""

  def write(
    self, params: Params, demonstrations: Any, key: jax.Array | None = None
  ) -> Adapters:
    """The adapters of each context, or one for all; none unless a problem has.

    Args:
      params: as `read_by_write` gives them.
      demonstrations: of each context, [C, S] or [C, N, S].
      key: without it nothing is dropped out.
    """
    del params, demonstrations, key
    return t5.NO_ADAPTERS

  def read_by_write(self, params: Params, frozen: Params) -> Params:
    """What adapters are written with: the trained parameters, or all."""
    del frozen
    return params

  def read(self, batch: Batch) -> jax.Array:
    """What the T5's encoder reads of a batch: [B, S]."""
    return batch.encoder_input_tokens

  def loss(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> Loss:
    """Loss summed over the batch, its weight, and metrics as sums and weights.

    Without `key` nothing is dropped out.
    """
    write_key, backbone_key = self._dropout_keys(key)
    setting = forward.Setting(
      (params | frozen)["backbone"],
      self.read(batch),
      self.write(
        self.read_by_write(params, frozen), batch.demonstrations, write_key
      ),
    )
    return objectives.token_loss(
      forward.logits(
        self.backbone,
        setting,
        forward.begun(self.backbone, batch.decoder_input_tokens),
        backbone_key,
      ),
      batch.decoder_target_tokens,
      batch.decoder_loss_weights,
      self.z_loss,
      self.label_smoothing,
    )

  def _dropout_keys(
    self, key: jax.Array | None
  ) -> tuple[jax.Array | None, jax.Array | None]:
    """Of what writes adapters, and of the T5 itself."""
    return None, key


@dataclasses.dataclass(frozen=True)
class LanguageModel(Problem):
  """Trains a T5 itself: pretraining a backbone from scratch."""

  backbone: T5Config
  z_loss: checks.Weight = 0.0
  label_smoothing: _Smoothing = 0.0

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
  label_smoothing: _Smoothing = 0.0

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
    return in_front(
      batch.demonstrations, batch.encoder_input_tokens, self.backbone.pad_id
    )


@dataclasses.dataclass(frozen=True)
class HyperTuning(Problem):
  """Trains a hypermodel that writes adapters for a frozen backbone.

  Both stages: on windows of text (hyperpretraining) and on few-shot episodes
  (multi-task fine-tuning). The frozen backbone runs without dropout. With
  `train_backbone` both are trained jointly.
  """

  backbone: T5Config
  hypermodel: HyperT5Config
  adapters: Spec
  train_backbone: bool = False
  z_loss: checks.Weight = 0.0
  label_smoothing: _Smoothing = 0.0

  reads_demonstrations = True
  has_adapters = True

  def __post_init__(self):
    super().__post_init__()
    self.hypermodel.check_fits(self.backbone, self.adapters)
    if self.train_backbone and self.hypermodel.reads_backbone:
      raise ValueError(
        "HyperTuning.train_backbone is True, which needs a hypermodel with a T5 "
        f"of its own: HyperT5Config.body is {self.hypermodel.body!r}, it must be "
        f"{hypermodel.COPY!r}"
      )

  def init(self, key: jax.Array) -> tuple[Params, Params]:
    hyper_key, backbone_key = jax.random.split(key)
    tokens_11 = jnp.ones((1, 1), jnp.int32)
    hyper_params = self._hypermodel.init(hyper_key, tokens_11)["params"]
    own = hypermodel.own(self.hypermodel, hyper_params)
    params, frozen = {"hypermodel": own}, {}
    backbone_params = _init_t5(self.backbone, backbone_key)
    (params if self.train_backbone else frozen)["backbone"] = backbone_params
    return params, frozen

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
  label_smoothing: _Smoothing = 0.0

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
    if self.num_tasks == 1:
      return super().loss(params, frozen, batch, key)
    weights_CN = batch.decoder_loss_weights.reshape(self.num_tasks, -1)
    total_C1 = weights_CN.sum(axis=1, keepdims=True)
    weights_CN = weights_CN / jnp.where(total_C1 > 0, total_C1, 1.0)
    shared = weights_CN.reshape(batch.decoder_loss_weights.shape)
    batch = dataclasses.replace(batch, decoder_loss_weights=shared)
    loss, _, metrics = super().loss(params, frozen, batch, key)
    return loss, jnp.float32(1), metrics


# Every one there is: files name a problem by its class.
PROBLEMS: tuple[type[Problem], ...] = (
  LanguageModel,
  FullFineTuning,
  HyperTuning,
  AdapterFineTuning,
)


def in_front(
  demonstrations: jax.Array, tokens_BS: jax.Array, pad_id: int
) -> jax.Array:
  """Each row with its context's demonstrations before it, padding at the end.

  Args:
    demonstrations: token ids of C contexts, [C, S_h] or [C, N, S_n].
    tokens_BS: row b belongs to context b // (B // C).
    pad_id: of the T5 that reads them.
  """
  contexts, rows = len(demonstrations), len(tokens_BS)
  before_CS = demonstrations.reshape(contexts, -1)
  before_BS = jnp.repeat(before_CS, rows // contexts, axis=0)
  joined_BS = jnp.concatenate([before_BS, tokens_BS], axis=1)
  # A stable sort by "is padding": T5 counts positions, so a gap would tell.
  order_BS = jnp.argsort(joined_BS == pad_id, axis=1, stable=True)
  return jnp.take_along_axis(joined_BS, order_BS, axis=1)


def _init_t5(config: T5Config, key: jax.Array) -> Params:
  tokens_11 = jnp.ones((1, 1), jnp.int32)
  return t5.T5(config).init(key, tokens_11, tokens_11)["params"]
