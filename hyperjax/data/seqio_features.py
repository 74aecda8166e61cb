"""Few-shot episodes for seqio pipelines: features and tasks. Needs seqio.

HyperJAX's own runs read stored tokens directly. This is for programs that take
seqio tasks and feature converters, such as t5x.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from hyperjax import checks
from hyperjax.batch import FeatureLengths, Lengths
from hyperjax.data import episodes
from hyperjax.data.store import seqio_store

DEMONSTRATIONS = "demonstrations"


class HyperTuningFeatureConverter(seqio.EncDecFeatureConverter):
  """Features of `hyperjax.batch.Batch` from demonstrations, inputs, targets.

  Never packed: rows of one sequence would share demonstrations.
  """

  TASK_FEATURES = {  # noqa: RUF012 - seqio's own way
    DEMONSTRATIONS: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    **seqio.EncDecFeatureConverter.TASK_FEATURES,
  }
  MODEL_FEATURES = {  # noqa: RUF012
    DEMONSTRATIONS: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    **seqio.EncDecFeatureConverter.MODEL_FEATURES,
  }

  def __init__(self, pack: bool = False, **options: Any):
    if pack:
      raise ValueError("HyperTuningFeatureConverter cannot pack: got pack=True")
    super().__init__(pack=False, **options)

  def _convert_example(self, features: Mapping[str, Any]) -> Mapping[str, Any]:
    converted = dict(super()._convert_example(features))
    return converted | {DEMONSTRATIONS: features[DEMONSTRATIONS]}

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    lengths = dict(super().get_model_feature_lengths(task_feature_lengths))
    return lengths | {DEMONSTRATIONS: task_feature_lengths[DEMONSTRATIONS]}


@checks.arguments
def add_few_shot_task(
  name: str,
  tasks: seqio_store.SeqioTasks | str,
  feature_lengths: FeatureLengths,
  num_demonstrations: episodes.NumDemonstrations = (1, 16),
  num_episodes: checks.Count | None = None,
  seed: checks.Seed = 0,
  metric_fns: Sequence[Callable[..., Any]] = (),
) -> None:
  """Registers a seqio task of few-shot episodes of other tasks.

  Any registered text-to-text task or mixture will do; its preprocessors stay
  as they are. An example has `demonstrations`, `inputs` and `targets`, trimmed
  to `feature_lengths`, for `HyperTuningFeatureConverter`.

  Args:
    name: of the new task.
    tasks: a `SeqioTasks`, or the name of a registered task or mixture.
    feature_lengths: tokens of each of the three features.
    num_demonstrations: drawn evenly from `[low, high]` for each episode.
    num_episodes: how many there are; None for no end.
    seed: of the episodes; where seqio shuffles and has a seed of its own, that
      one counts too.
    metric_fns: seqio's, of targets and predictions; a program that evaluates
      seqio tasks skips those without.

  Raises:
    ValueError: lengths lack a feature, or have each demonstration by itself; no
      such task or mixture.
  """
  if isinstance(tasks, str):
    tasks = seqio_store.SeqioTasks(tasks)
  few_shot = episodes.FewShot(num_demonstrations)
  lengths = Lengths.from_features(feature_lengths)
  if lengths.are_separate:
    raise ValueError(
      "feature_lengths has 'num_demonstrations': an example of a seqio task "
      "has its demonstrations joined, in one row of ids"
    )
  made = _Examples(tasks, few_shot, lengths, num_episodes, seed)
  underlying, _ = tasks.find()[0]
  own = underlying.output_features["targets"].vocabulary
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(made.dataset, splits=(tasks.split,)),  # pyright: ignore[reportArgumentType]: seqio checks the names alone
    preprocessors=[],
    output_features={
      feature: seqio.Feature(own, add_eos=False)
      for feature in (DEMONSTRATIONS, "inputs", "targets")
    },
    metric_fns=list(metric_fns),
    # One: shuffling, which seqio asks for in training, changes nothing.
    shuffle_buffer_size=1,
  )


@dataclasses.dataclass(frozen=True)
class _Examples:
  """Episodes as a `tf.data.Dataset`, for seqio."""

  tasks: seqio_store.SeqioTasks
  few_shot: episodes.FewShot
  lengths: Lengths
  num_episodes: int | None
  own_seed: int  # seqio's has the name `seed`

  def dataset(
    self, split: str, shuffle_files: bool = False, seed: int | None = None
  ) -> Any:
    del split
    drawn = self.own_seed
    if shuffle_files and seed is not None:
      entropy = np.random.SeedSequence((self.own_seed, seed))
      drawn = int(entropy.generate_state(1)[0])
    ids = tf.TensorSpec((None,), tf.int32)
    names = (DEMONSTRATIONS, "inputs", "targets")
    return tf.data.Dataset.from_generator(
      lambda: self._read(drawn), output_signature=dict.fromkeys(names, ids)
    )

  def _read(self, seed: int) -> Iterator[dict[str, Any]]:
    source = episodes.Episodes(
      self.tasks.open(), self.few_shot, self.lengths, seed
    )
    number = self.num_episodes
    for index in itertools.count() if number is None else range(number):
      context = source[index]
      yield {
        DEMONSTRATIONS: context.demonstrations,
        "inputs": context.inputs[0],
        "targets": context.targets[0],
      }
