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

from hyperjax import adapter_folder, predicting, trained
from hyperjax.adapter_folder import Adapter
from hyperjax.batch import pad_demonstrations, power_of_two
from hyperjax.data import examples
from hyperjax.data.examples import Example, Fitted
from hyperjax.interop import sources
from hyperjax.models import decoding

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
  return Model(trained.open_run(run, vocabulary), backbone)


class Model:
  """A trained hypermodel and its backbone, on one device."""

  def __init__(self, run: trained.Trained, backbone: str | None = None):
    self.run = run
    self.vocabulary, self.lengths = run.vocabulary, run.lengths
    self._moved = backbone

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

  def predict(
    self,
    inputs: Sequence[str],
    adapter: Adapter | Sequence[Adapter] | None = None,
    decoder: decoding.Decoder = decoding.Greedy,
    max_length: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
  ) -> list[str]:
    """The backbone's answers under an adapter, or each under its own.

    Raises:
      ValueError: adapters are of another backbone, or differ in their arrays.
    """
    predictor = predicting.Predictor(
      self.backbone, decoder, max_length, batch_size, seed
    )
    own = adapter if isinstance(adapter, Sequence) else [adapter] * len(inputs)
    if len(own) != len(inputs):
      raise ValueError(f"{len(inputs)} inputs, {len(own)} adapters")
    is_one = not isinstance(adapter, Sequence)
    texts = []
    for first in range(0, len(inputs), batch_size):
      some = slice(first, first + batch_size)
      rows = own[:1] if is_one else own[some]
      texts += predictor(inputs[some], rows, first).texts
    return texts

  @property
  def backbone_identity(self) -> str:
    """Of the T5 that its adapters are for; a frozen one is not read for it."""
    if not self.run.problem.train_backbone:
      return self.run.named["identity"]
    return self.backbone.identity

  def check(self, info: adapter_folder.Info, where: str) -> None:
    """Refuses adapters of another backbone or tokenizer, without reading it.

    Raises:
      ValueError: as it says.
    """
    adapter_folder.check_fits(
      info, self.backbone_identity, self.vocabulary.identity, where
    )

  @functools.cached_property
  def backbone(self) -> predicting.Backbone:
    """The T5 that answers, read now."""
    run = self.run
    params = self._params if run.problem.train_backbone else None
    loaded, identity = trained.load_backbone(run, params, self._moved)
    return predicting.Backbone(
      run.problem.backbone, loaded, identity, self.vocabulary, self.lengths
    )

  @functools.cached_property
  def _params(self) -> Any:
    return trained.load_params(self.run)

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
    if run.problem.train_backbone:
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
