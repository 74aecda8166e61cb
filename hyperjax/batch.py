"""What a step is fed: fields, axes, checks; numpy and jax only."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from flax import struct

from hyperjax import checks, sharding

PAD_ID = 0  # of every T5 that was published; `T5Config.pad_id` is a T5's own

_Separate = Annotated[int, checks.Whole(0, checks.MAX_LENGTH)]


@struct.dataclass
class Batch:
  """B = C * G rows; row b belongs to context b // G. Rows end with padding.

  The names are t5x's where it has one. Without `demonstrations` (None) rows
  stand alone.
  """

  encoder_input_tokens: Any  # int32 [B, S]
  decoder_input_tokens: Any  # int32 [B, T]
  decoder_target_tokens: Any  # int32 [B, T]
  decoder_loss_weights: Any  # float32 [B, T]
  demonstrations: Any = None  # int32 [C, S_h] or [C, N, S_n]
  # A text beside each context, which has nothing to do with it; or None.
  unrelated_inputs: Any = None  # int32 [C, S]
  unrelated_targets: Any = None  # int32 [C, T]

  @property
  def num_contexts(self) -> int:
    """C; each row its own context where there are no demonstrations."""
    if self.demonstrations is None:
      return len(self.encoder_input_tokens)
    return len(self.demonstrations)


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens each feature is padded to; `demonstrations` 0 means there are none.

  With `num_demonstrations` (N) each is encoded by itself, in a row of its own of
  `demonstrations` tokens: cost grows with their number, not with its square. With
  0 they are joined in one row.
  """

  inputs: checks.Length
  targets: checks.Length
  demonstrations: _Separate = 0
  num_demonstrations: _Separate = 0

  def __post_init__(self):
    checks.fields(self)

  @property
  def are_separate(self) -> bool:
    """Whether each demonstration is encoded by itself."""
    return self.num_demonstrations > 0

  @property
  def read_tokens(self) -> int:
    """That the hypermodel reads of a context, all its demonstrations together."""
    return self.demonstrations * max(1, self.num_demonstrations)

  def tokens(self, rows: int, are_joined: bool = False) -> int:
    """Of a padded context of so many rows: all that is read and written.

    Its demonstrations once; `are_joined`, before each row's input.
    """
    read = self.read_tokens * (rows if are_joined else 1)
    return read + rows * (self.inputs + self.targets)

  @classmethod
  def from_features(cls, lengths: Mapping[str, int]) -> "Lengths":
    """From t5x's TASK_FEATURE_LENGTHS.

    Raises:
      ValueError: a feature is missing, unknown, or not a positive length.
    """
    checks.rule_of(FeatureLengths).check("TASK_FEATURE_LENGTHS", lengths)
    return cls(**lengths)


class Sizes(NamedTuple):
  """Tokens that a context has of each feature, of its longest row; as `Lengths`."""

  inputs: int
  targets: int
  demonstrations: int = 0
  num_demonstrations: int = 0


# The tokens of each feature, as gin files have them: t5x's TASK_FEATURE_LENGTHS.
FeatureLengths = Annotated[
  Mapping[str, int],
  checks.Entries(
    [field.name for field in dataclasses.fields(Lengths)],
    checks.rule_of(checks.Length),
    needed=("inputs", "targets"),
  ),
]


class Beside(NamedTuple):
  """A text that has nothing to do with the context it stands beside."""

  inputs: np.ndarray  # [s]
  targets: np.ndarray  # [t]
  lengths: Lengths  # that they are padded to


@dataclasses.dataclass
class Context:
  """The rows of one context before padding: id arrays without padding."""

  inputs: Sequence[np.ndarray]  # G of [s]
  targets: Sequence[np.ndarray]  # G of [t]
  # [s], or where they are encoded separately at most N of [s]
  demonstrations: np.ndarray | Sequence[np.ndarray] | None = None
  unrelated: Beside | None = None


def assemble(
  contexts: Sequence[Context], lengths: Lengths, pad_id: int = PAD_ID
) -> Batch:
  """Pads and stacks contexts, in their order, to one batch of numpy arrays.

  Decoder inputs are the targets shifted right by one, beginning with padding.
  """
  inputs = [ids for context in contexts for ids in context.inputs]
  targets = [ids for context in contexts for ids in context.targets]
  demonstrations = None
  if contexts[0].demonstrations is not None:
    read: list[Any] = [context.demonstrations for context in contexts]
    demonstrations = pad_demonstrations(read, lengths, pad_id)
  unrelated = _padded_text(contexts, pad_id)
  return Batch(
    encoder_input_tokens=pad(inputs, lengths.inputs, pad_id),
    demonstrations=demonstrations,
    **unrelated,
    **decoder_fields(pad(targets, lengths.targets, pad_id), pad_id),
  )


def _padded_text(
  contexts: Sequence[Context], pad_id: int
) -> dict[str, np.ndarray]:
  """The fields of `Batch` of the text beside each context, where there is one."""
  found = [each.unrelated for each in contexts if each.unrelated is not None]
  if not found:
    return {}
  lengths = found[0].lengths
  return {
    "unrelated_inputs": pad([x.inputs for x in found], lengths.inputs, pad_id),
    "unrelated_targets": pad(
      [x.targets for x in found], lengths.targets, pad_id
    ),
  }


def decoder_fields(
  targets_BT: np.ndarray, pad_id: int = PAD_ID
) -> dict[str, np.ndarray]:
  """The fields of `Batch` [B, T] with which padded targets are predicted."""
  shifted_BT = np.full_like(targets_BT, pad_id)
  shifted_BT[:, 1:] = targets_BT[:, :-1]
  return {
    "decoder_input_tokens": shifted_BT,
    "decoder_target_tokens": targets_BT,
    "decoder_loss_weights": (targets_BT != pad_id).astype(np.float32),
  }


def sequences(
  demonstrations: np.ndarray | Sequence[np.ndarray],
) -> list[np.ndarray]:
  """What is read by itself of a context: one row where they are joined."""
  if isinstance(demonstrations, np.ndarray):
    return [demonstrations]
  return list(demonstrations)


def pad_demonstrations(
  read: Sequence[Any], lengths: Lengths, pad_id: int = PAD_ID
) -> np.ndarray:
  """What the hypermodel reads of each context: [C, S], or [C, N, S]."""
  if not lengths.are_separate:
    return pad(read, lengths.demonstrations, pad_id)
  shape = (len(read), lengths.num_demonstrations, lengths.demonstrations)
  padded = np.full(shape, pad_id, np.int32)
  for i, rows in enumerate(read):
    padded[i, : len(rows)] = pad(rows, lengths.demonstrations, pad_id)
  return padded


def pad(rows: Sequence[Any], length: int, pad_id: int = PAD_ID) -> np.ndarray:
  """int32 [len(rows), length], filled up; a longer row is a bug upstream."""
  padded = np.full((len(rows), length), pad_id, np.int32)
  for i, ids in enumerate(rows):
    padded[i, : len(ids)] = ids
  return padded


def pad_choices(
  choices: Sequence[Sequence[Any]],
  max_length: int | None = None,
  pad_id: int = PAD_ID,
) -> np.ndarray:
  """Token ids of each row's choices: int32 [B, A, T]; those it lacks are empty.

  A and T are the most and the longest rounded up to a power of two, for few
  shapes; T is `max_length` at most.
  """
  width = power_of_two(max(map(len, choices)))
  longest = max((len(ids) for own in choices for ids in own), default=1)
  length = power_of_two(longest)
  if max_length is not None:
    length = min(length, max_length)
  rows = [ids for own in choices for ids in [*own, *[[]] * (width - len(own))]]
  return pad(rows, length, pad_id).reshape(len(choices), width, length)


def power_of_two(number: int) -> int:
  """The least one that is not below `number`, which is at least 1."""
  return 1 << (number - 1).bit_length()


def microbatch(
  batch: Batch, count: int, index: jax.Array | int, num_tasks: int = 1
) -> Batch:
  """Every `count`-th context from `index` on, with its rows.

  Of several tasks side by side, which a part may not lack, every `count`-th row of
  each. Strided, so that no row changes device.
  """
  parts = num_tasks if num_tasks > 1 else batch.num_contexts // count

  def take(x):
    rows = len(x) // (parts * count)
    if num_tasks > 1:
      x = x.reshape(parts, rows, count, *x.shape[1:]).swapaxes(1, 2)
    else:
      x = x.reshape(parts, count, rows, *x.shape[1:])
    x = jax.lax.dynamic_index_in_dim(x, index, axis=1, keepdims=False)
    x = x.reshape(-1, *x.shape[2:])
    return sharding.constrain(x, sharding.BATCH, *[None] * (x.ndim - 1))

  return jax.tree.map(take, batch)


def trim(ids: np.ndarray, length: int, eos_id: int | None) -> np.ndarray:
  """`ids` cut to `length`, its final end-of-sequence kept, as seqio trims."""
  if len(ids) <= length:
    return ids
  if eos_id is None or ids[-1] != eos_id:
    return ids[:length]
  return np.append(ids[: length - 1], ids[-1])
