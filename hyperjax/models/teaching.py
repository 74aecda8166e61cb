"""What a hypermodel's T5 is held to besides targets: a teacher's answers, its own.

A teacher is a T5 that has a context's demonstrations in its input, as in-context
learning has: what it makes of them is what an adapter is to do without them
(context distillation). It has no gradient.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from hyperjax import checks
from hyperjax.batch import Batch
from hyperjax.models import forward, objectives, t5
from hyperjax.models.t5_layers import T5Config

TEACHER = "teacher"  # its parameters, where it has its own
DATA = "data"
TARGETS = (DATA, TEACHER)


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A T5 with the demonstrations in its input, whose answers are learnt.

  Attributes:
    weight: times which the divergence from its distribution of each target token
      is added to the loss.
    top: ids of each position that are told apart, the teacher's likeliest; None for
      all.
    targets: "data" for the targets of the data; "teacher" for the teacher's own
      greedy answers, for inputs without any.
    answer_length: tokens of these at most; None for as many as targets have room.
    t5: of a teacher with weights of its own, a run of stages/in_context.gin; None:
      it is the backbone.
  """

  weight: checks.Weight = 1.0
  top: checks.Count | None = None
  targets: Annotated[str, checks.OneOf(TARGETS)] = DATA
  answer_length: checks.Length | None = None
  t5: T5Config | None = None

  def __post_init__(self):
    checks.fields(self)

  @property
  def follows_batch(self) -> bool:
    """Whether its answers are as long as a batch has room for."""
    return self.targets == TEACHER and self.answer_length is None

  def check_fits(self, backbone: T5Config, is_trained: bool) -> None:
    """Refuses a teacher for a T5 that it has nothing to say to.

    Args:
      backbone: the T5.
      is_trained: whether it is trained with its hypermodel.

    Raises:
      ValueError: as it says.
    """
    if self.t5 is None and is_trained:
      raise ValueError(
        "HyperTuning.teacher is the backbone itself, which "
        "HyperTuning.train_backbone moves: a teacher needs a T5 of its own "
        "(Teacher.t5), or the backbone must be frozen"
      )
    if self.t5 is None:
      return
    for name in ("vocab_size", "pad_id", "start_id", "eos_ids"):
      own, theirs = getattr(self.t5, name), getattr(backbone, name)
      if own != theirs:
        raise ValueError(
          f"Teacher.t5 has {name} {own}, the backbone {theirs}: a teacher must "
          "have the backbone's tokenizer"
        )

  def teach(
    self, backbone: T5Config, params: Any, batch: Batch
  ) -> tuple[Batch, jax.Array]:
    """A batch with the targets that are learnt, and the teacher's logits of these.

    Args:
      backbone: the T5 that learns.
      params: "backbone", and "teacher" where that has its own.
      batch: with demonstrations.

    Raises:
      ValueError: there are none.
    """
    if batch.demonstrations is None:
      raise ValueError(
        "HyperTuning.teacher reads demonstrations, which the data has not; few-shot "
        "episodes have"
      )
    config = self.t5 or backbone
    weights = params["backbone" if self.t5 is None else TEACHER]
    setting = forward.Setting(
      jax.lax.stop_gradient(weights),
      forward.in_front(
        batch.demonstrations, batch.encoder_input_tokens, config.pad_id
      ),
    )
    if self.targets == TEACHER:
      batch = self._answered(config, setting, batch)
    begun = forward.begun(config, batch.decoder_input_tokens)
    logits_BTV = forward.logits(config, setting, begun)
    return batch, jax.lax.stop_gradient(logits_BTV)

  def _answered(
    self, config: T5Config, setting: forward.Setting, batch: Batch
  ) -> Batch:
    """A batch whose targets are the teacher's answers.

    Rows without an input, which only fill a batch, have none.
    """
    pad_id = config.pad_id
    length = self.answer_length or batch.decoder_target_tokens.shape[1]
    tokens_BT = forward.decode(config, setting, max_length=length).tokens
    is_row_B1 = (batch.encoder_input_tokens != pad_id).any(-1, keepdims=True)
    tokens_BT = jax.lax.stop_gradient(jnp.where(is_row_B1, tokens_BT, pad_id))
    return dataclasses.replace(
      batch,
      decoder_input_tokens=forward.shifted(config, tokens_BT),
      decoder_target_tokens=tokens_BT,
      decoder_loss_weights=forward.token_weights(config, tokens_BT),
    )


def drift(
  config: T5Config, setting: forward.Setting, batch: Batch
) -> jax.Array:
  """How far adapters move the T5 on the unrelated text of each context, summed.

  The divergence from the T5 without them, a mean over the text's tokens, times the
  context's target tokens: so the mean over these is that over contexts, however
  a batch is divided.

  Raises:
    ValueError: the data has no such text.
  """
  if batch.unrelated_inputs is None:
    raise ValueError(
      "HyperTuning.do_no_harm needs unrelated text, which the data has not: set "
      "FewShotEpisodes.unrelated"
    )
  own = setting._replace(tokens=batch.unrelated_inputs)
  targets_CT = batch.unrelated_targets
  begun_CT = forward.shifted(config, targets_CT)
  adapted_CTV = forward.logits(config, own, begun_CT)
  plain_CTV = forward.logits(
    config, own._replace(adapters=t5.NO_ADAPTERS), begun_CT
  )
  weights_CT = forward.token_weights(config, targets_CT)
  found_CT = objectives.divergence(
    jax.lax.stop_gradient(plain_CTV), adapted_CTV
  )
  tokens_C = jnp.maximum(weights_CT.sum(-1), 1.0)
  mean_C = (found_CT * weights_CT).sum(-1) / tokens_C
  of_targets = batch.decoder_loss_weights
  return (mean_C * of_targets.reshape(len(mean_C), -1).sum(-1)).sum()
