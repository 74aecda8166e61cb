"""Adapters from a few examples, and predictions with them.

```python
model = serving.load("runs/demo_lora/multitask")
adapter = model.adapt([("alice paris red seven", "red ; paris"), ...])
model.predict(["oscar rome blue ten"], adapter)
```

Text becomes ids as in training, by SentencePiece alone. Programs are compiled
for few shapes, once in the life of a model: demonstrations are padded to the length
of training, inputs, rows and contexts to powers of two; none of it changes a token.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

from hyperjax.artifacts import (
  adapter_folder,
  encoded_examples,
  restore,
  run_folder,
  run_record,
)
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import sequences
from hyperjax.serving import backbone as backbones
from hyperjax.serving import distance as distances
from hyperjax.serving import examples
from hyperjax.serving import given as giving
from hyperjax.serving import update as updating
from hyperjax.serving.answering_t5 import BATCH_SIZE, AnsweringT5
from hyperjax.serving.examples import Example, Fitted
from hyperjax.serving.hypermodel import Hypermodel
from hyperjax.sharding import Layout, MeshSpec

# An example as its input and output, where a line number is of no use.
Given = Example | tuple[str, str]


def load(
  run: str | os.PathLike[str],
  backbone: str | None = None,
  vocabulary: str | None = None,
  layout: Layout | None = None,
  quantization: str | None = None,
) -> "Model":
  """The hypermodel of a run folder; its arrays are read when they are needed.

  Args:
    run: the folder.
    backbone: where its frozen T5 lies now, if it has moved.
    vocabulary: where its tokenizer lies now, if it has moved.
    layout: the mesh; by default over all devices, each with a copy.
    quantization: of its T5, "int8" for most of it in eight bits; None: as in
      training.

  Raises:
    ValueError: there is no such run, or one that trained no hypermodel.
  """
  opened = run_folder.open_run(os.fspath(run), vocabulary)
  opened = run_folder.in_precision(opened, quantization)
  return Model(opened, backbone, layout or MeshSpec().build())


class Model(AnsweringT5):
  """A trained hypermodel and its backbone, on one mesh."""

  def __init__(
    self, run: run_folder.Trained, moved: str | None, layout: Layout
  ):
    """Describes a model; `moved` is where its frozen T5 lies now, if it has."""
    super().__init__(backbones.of_run(run, moved, layout))
    self.run, self._moved = run, moved
    reads_backbone = run.problem.hypermodel.reads_backbone
    self.hypermodel = Hypermodel(
      run, layout, (lambda: self.backbone.params) if reads_backbone else None
    )

  def __repr__(self) -> str:
    label = self.run.problem.adapters.label
    return f"Model({str(self.run.folder)!r}, step {self.run.step}, {label})"

  def fit(
    self, given: Sequence[Given], instruction: str | None = None
  ) -> Fitted:
    """Those examples that the hypermodel has room for, as it reads them."""
    return self.pool(given, instruction).fit()

  def pool(
    self, given: Sequence[Given], instruction: str | None = None
  ) -> examples.Pool:
    """Examples of which the hypermodel may read some, each once.

    Raises:
      ValueError: no model reads an instruction.
    """
    return examples.Pool(
      examples.distinct(giving.as_examples(given)),
      self.vocabulary,
      self.lengths,
      instruction,
      self.run.instruction_readers,
    )

  def adapt(
    self,
    given: giving.GivenExamples,
    instruction: str | None = None,
    keep_encoded: bool = False,
  ) -> Adapter:
    """The adapter that the hypermodel writes from examples of a task.

    Args:
      given: pairs of an input and its output, mappings that name them, or a
        file such as `hyperjax adapt` reads.
      instruction: what says in words what the task is; for models that were
        trained with instructions.
      keep_encoded: whether to keep what makes updates exact; for models that
        encode each demonstration by itself.

    Raises:
      ValueError: there are none, or none fits.
    """
    pairs = giving.as_examples(given)
    return self.write([self.fit(pairs, instruction)], keep_encoded)[0]

  def write(
    self, fitted: Sequence[Fitted], keep_encoded: bool = False
  ) -> list[Adapter]:
    """Adapters of several tasks, some at a time in one pass.

    Raises:
      ValueError: encodings are to be kept that allow no update.
    """
    if not keep_encoded:
      arrays = self.hypermodel.write([one.tokens for one in fitted])
      return [
        Adapter(self._info(one), own)
        for one, own in zip(fitted, arrays, strict=True)
      ]
    self.check_keeps()
    found = []
    for one in fitted:
      encoded = self.hypermodel.encode(sequences(one.tokens))
      own = self.hypermodel.write_encoded(encoded)
      found.append(Adapter(self._info(one), own, encoded))
    return found

  def update(
    self,
    adapter: giving.GivenAdapter,
    given: giving.GivenExamples,
    by_mean: bool = False,
  ) -> Adapter:
    """An adapter of the same task, with further examples; the old are not read.

    Exact, but for rounding, where each demonstration is encoded by itself:
    `adapter` must hold what was kept of its own (`adapt(..., keep_encoded=True)`, or
    `adapter_folder.read(folder, with_encoded=True)`). Else the mean of it and of
    the new examples' adapter, which is approximate.

    Args:
      adapter: written by this hypermodel, or an update of one; or its folder.
      given: the new examples, as for `adapt`.
      by_mean: whether to take the mean also where an update could be exact.

    Raises:
      ValueError: another hypermodel wrote the adapter, it lacks what an exact
        update needs, or no example fits.
    """
    old = giving.as_adapter(adapter, with_encoded=not by_mean)
    fitted = self.fit_more(old, giving.as_examples(given), by_mean)
    return self.write_more(old, fitted, by_mean)

  def check_update(
    self,
    adapter: Adapter,
    by_mean: bool = False,
    name: Any = "the given adapter",
  ) -> None:
    """Refuses an adapter that cannot be updated so.

    Raises:
      ValueError: as for `update`; `name` is the adapter's in the message.
    """
    self.backbone.check(adapter.info, str(name))
    updating.check(adapter.info, self.hypermodel.identity, self.lengths, name)
    if self._is_exact(by_mean) and adapter.encoded is None:
      raise ValueError(
        f"{name} has no {encoded_examples.FILE}, which an exact update needs: write it "
        "again from its examples with --keep_encoded (keep_encoded=True), or "
        "take the mean of adapters with --by_mean, which is approximate"
      )

  def fit_more(
    self, adapter: Adapter, given: Sequence[Given], by_mean: bool = False
  ) -> Fitted:
    """Those new examples that an update has room for, as it reads them.

    Encoded by themselves, all of them have a row, also more than in training.

    Raises:
      ValueError: as for `update`.
    """
    self.check_update(adapter, by_mean)
    if not self._is_exact(by_mean):
      return self.fit(given, _said(adapter.info))
    # Whatever instruction there was is among what is kept.
    new = examples.distinct(giving.as_examples(given))
    return examples.fit(new, self.vocabulary, self.hypermodel.room(len(new)))

  def write_more(
    self, adapter: Adapter, fitted: Fitted, by_mean: bool = False
  ) -> Adapter:
    """The updated adapter, from what `fit_more` gave."""
    if not self._is_exact(by_mean):
      return updating.by_mean(adapter, self.write([fitted])[0])
    new = self.hypermodel.encode(sequences(fitted.tokens))
    assert adapter.encoded is not None
    both = encoded_examples.joined([adapter.encoded, new])
    arrays = self.hypermodel.write_encoded(both)
    return updating.exactly(adapter, both, fitted, arrays)

  def read_again(self, adapter: Adapter, given: Sequence[Given]) -> Adapter:
    """An adapter written from all examples of an updated one at once.

    Of joined demonstrations, from those that have room in the one row.
    """
    count = len(given) + 1  # an instruction has a row, too
    fitted = examples.fit(
      giving.as_examples(given),
      self.vocabulary,
      self.hypermodel.room(count),
      _said(adapter.info),
      self.run.instruction_readers,
    )
    return self.write([fitted])[0]

  def distance(
    self,
    adapter: giving.GivenAdapter,
    given: giving.GivenExamples,
    inputs: Iterable[str] = (),
    batch_size: int = BATCH_SIZE,
  ) -> distances.Distance:
    """How far an updated adapter is from one written from all examples at once.

    Args:
      adapter: the updated one.
      given: all its examples, old and new.
      inputs: what both answer, if anything.
      batch_size: of inputs.
    """
    inputs = giving.as_inputs(inputs)
    adapter = giving.as_adapter(adapter)
    again = self.read_again(adapter, giving.as_examples(given))
    answers = None
    if inputs:
      answers = distances.of_answers(self, again, adapter, inputs, batch_size)
    return distances.Distance(
      again.info.origin["demonstrations"]["count"],
      distances.of_arrays(again, adapter),
      answers,
    )

  def check_keeps(self) -> None:
    """Refuses to keep encodings that allow no exact update.

    Raises:
      ValueError: demonstrations are joined in one row.
    """
    if not self.lengths.are_separate:
      raise ValueError(
        f"{self.run.folder} reads demonstrations joined in one row, where each "
        "changes how the others are read: nothing that is kept (--keep_encoded) "
        "makes an update exact"
      )

  def _is_exact(self, by_mean: bool) -> bool:
    return self.lengths.are_separate and not by_mean

  def _info(self, fitted: Fitted) -> adapter_folder.Info:
    run = self.run
    named = restore.named_now(run.record.backbone, self._moved)
    if run.trains_t5 or named is None:
      own = self.backbone.identity
      named = run_record.BackboneRef(own, str(run.folder), run.step)
    instruction = None
    if fitted.instruction is not None:
      readers = list(run.instruction_readers)
      instruction = {"text": fitted.instruction, "readers": readers}
    return adapter_folder.Info(
      spec=run.problem.adapters,
      config=run.problem.backbone,
      backbone=named,
      tokenizer=run_record.TokenizerRef.of(self.vocabulary.description),
      lengths=dataclasses.asdict(self.lengths),
      origin={
        "hypermodel": {
          "run": str(run.folder),
          "step": run.step,
          "identity": self.hypermodel.identity,
        },
        "demonstrations": updating.read_from(fitted),
      },
      instruction=instruction,
    )


def _said(info: adapter_folder.Info) -> str | None:
  """The instruction that an adapter was written with."""
  return None if info.instruction is None else info.instruction["text"]
