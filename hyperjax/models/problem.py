"""What every problem is: parameters, what a T5 reads and is given, and a loss."""

import abc
from typing import Annotated, Any

import jax

from hyperjax import checks
from hyperjax.adapters import Adapters
from hyperjax.batch import Batch
from hyperjax.models import forward, objectives, t5
from hyperjax.models.t5_layers import T5Config

Params = Any
Smoothing = Annotated[float, checks.Number(least=0, below=1)]
Loss = tuple[jax.Array, jax.Array, objectives.Metrics]


class Problem(abc.ABC):
  """What a Trainer trains: a frozen dataclass with the fields below.

  A problem says how its parameters begin, what the T5 reads and which adapters
  it gets; loss, decoding and ranking (`models.forward`) follow from that.
  """

  backbone: T5Config  # the T5 that answers
  z_loss: checks.Weight
  label_smoothing: Smoothing

  # What the controls of an evaluation can change.
  reads_demonstrations = False
  has_adapters = False
  # Whose parameters are trained side by side: context i of a batch is task i.
  num_tasks = 1

  def __post_init__(self):
    checks.fields(self)

  @property
  def joins_demonstrations(self) -> bool:
    """Whether a T5 reads a context's demonstrations before each of its inputs."""
    return self.reads_demonstrations and not self.has_adapters

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
    setting, logits_BTV = self._answer(params, frozen, batch, key)
    del setting
    return self._token_loss(logits_BTV, batch)

  def in_parts(self, batch: Batch, count: int) -> Batch:
    """A batch of whose `count` microbatches `loss_of_part` takes the losses."""
    del count
    return batch

  def loss_of_part(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> Loss:
    """As `loss`, of a microbatch: sums and weights add up to the batch's."""
    return self.loss(params, frozen, batch, key)

  def _answer(
    self, params: Params, frozen: Params, batch: Batch, key: jax.Array | None
  ) -> tuple[forward.Setting, jax.Array]:
    """What the T5 is given of a batch, and its logits [B, T, V]."""
    write_key, backbone_key = self._dropout_keys(key)
    setting = forward.Setting(
      (params | frozen)["backbone"],
      self.read(batch),
      self.write(
        self.read_by_write(params, frozen), batch.demonstrations, write_key
      ),
    )
    begun = forward.begun(self.backbone, batch.decoder_input_tokens)
    return setting, forward.logits(self.backbone, setting, begun, backbone_key)

  def _token_loss(self, logits_BTV: jax.Array, batch: Batch) -> Loss:
    return objectives.token_loss(
      logits_BTV,
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
