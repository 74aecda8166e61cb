"""Adapters from a few examples, and predictions with them.

```python
model = serving.load("runs/demo_lora/multitask")
adapter = model.adapt([("alice paris red seven", "red ; paris"), ...])
model.predict(["oscar rome blue ten"], adapter)
```

Text becomes ids as in training, by SentencePiece alone. Programs are compiled
for few shapes: demonstrations are padded to the length of training, inputs to a
power of two, contexts to a power of two; none of it changes a token.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from hyperjax import adapter_folder, trained
from hyperjax.adapter_folder import Adapter
from hyperjax.batch import pad_demonstrations, power_of_two
from hyperjax.data import examples
from hyperjax.data.examples import Example, Fitted
from hyperjax.interop import sources
from hyperjax.serving_t5 import ServedT5

_CONTEXTS = 16  # written in one pass at most

# An example as its input and output, where a line number is of no use.
Given = Example | tuple[str, str]


def load(
  run: str, backbone: str | None = None, vocabulary: str | None = None
) -> "Model":
  """The hypermodel of a run folder; its arrays are read when they are needed.

  Args:
    run: the folder.
    backbone: where its frozen T5 lies now, if it has moved.
    vocabulary: where its tokenizer lies now, if it has moved.

  Raises:
    ValueError: there is no such run, or one that trained no hypermodel.
  """
  opened = trained.open_run(run, vocabulary)
  trained.check_moved(opened, backbone)
  return Model(opened, backbone)


class Model(ServedT5):
  """A trained hypermodel and its backbone, on one device."""

  def __init__(self, run: trained.Trained, backbone: str | None = None):
    self.run = run
    self._moved = backbone
    super().__init__(
      run.problem.backbone,
      run.vocabulary,
      run.lengths,
      lambda: trained.load_backbone(
        run, self._params if run.trains_t5 else None, backbone
      ),
      None if run.trains_t5 else run.named["identity"],
    )

  def fit(
    self, given: Sequence[Given], instruction: str | None = None
  ) -> Fitted:
    """Those examples that the hypermodel has room for, as it reads them."""
    return examples.fit(
      [x if isinstance(x, Example) else Example(*x) for x in given],
      self.vocabulary,
      self.lengths,
      instruction,
      self.run.instruction_readers,
    )

  def adapt(
    self, given: Sequence[Given], instruction: str | None = None
  ) -> Adapter:
    """The adapter that the hypermodel writes from examples of a task.

    Args:
      given: the examples.
      instruction: what says in words what the task is; for models that were
        trained with instructions.

    Raises:
      ValueError: there are none, or none fits.
    """
    return self.write([self.fit(given, instruction)])[0]

  def write(self, fitted: Sequence[Fitted]) -> list[Adapter]:
    """Adapters of several tasks, some at a time in one pass."""
    found = []
    for first in range(0, len(fitted), _CONTEXTS):
      some = list(fitted[first : first + _CONTEXTS])
      contexts = power_of_two(len(some))
      tokens = pad_demonstrations(
        [one.tokens for one in [*some, *some[-1:] * (contexts - len(some))]],
        self.lengths,
      )
      written = jax.device_get(self._write(self._params, tokens))
      for i, one in enumerate(some):
        own = jax.tree.map(lambda leaf, i=i: leaf[:, i : i + 1], written)
        found.append(Adapter(self._info(one), own))
    return found

  @functools.cached_property
  def _params(self) -> Any:
    run = self.run
    return trained.load_params(run.folder, run.step, run.problem)

  @functools.cached_property
  def _write(self) -> Any:
    return jax.jit(self.run.problem.write)

  def _info(self, fitted: Fitted) -> adapter_folder.Info:
    run = self.run
    pairs = [[example.input, example.output] for example in fitted.kept]
    read = {"instruction": fitted.instruction, "examples": pairs}
    content = json.dumps(read, ensure_ascii=False).encode()
    named = dict(run.named)
    if self._moved:
      source = self._moved
      if not sources.is_remote(source):
        source = str(pathlib.Path(source).expanduser().absolute())
      named |= {"source": source, "step": None}
    if run.trains_t5:
      named |= {"source": str(run.folder), "step": run.step}
    instruction = None
    if fitted.instruction is not None:
      readers = list(run.instruction_readers)
      instruction = {"text": fitted.instruction, "readers": readers}
    return adapter_folder.Info(
      spec=run.problem.adapters,
      config=run.problem.backbone,
      backbone=named | {"identity": self.backbone_identity},
      tokenizer=self.vocabulary.description,
      lengths=dataclasses.asdict(self.lengths),
      origin={
        "hypermodel": {"run": str(run.folder), "step": run.step},
        "demonstrations": {
          "sha256": hashlib.sha256(content).hexdigest(),
          "count": len(fitted.kept),
          "dropped": len(fitted.dropped),
        },
      },
      instruction=instruction,
    )
