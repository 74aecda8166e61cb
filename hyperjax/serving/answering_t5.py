"""A T5 that answers under adapters: of any run, or a folder of its own.

A run says what its T5 is and how it reads text. A T5 of another program does not:
its adapters do, or whoever asks.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from hyperjax.artifacts import adapter_folder, restore, run_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import Lengths
from hyperjax.data.vocabulary import SentencePiece, open_described
from hyperjax.interop import formats, hf, weights
from hyperjax.models import decoding
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import predictor as predicting

# Parameters on the first device, and their identity.
Load = Callable[[], tuple[Any, str]]


class ServedT5:
  """A T5 with how it reads text; its weights are read when they are needed."""

  def __init__(
    self,
    config: T5Config,
    vocabulary: SentencePiece,
    lengths: Lengths,
    load: Load,
    identity: str | None = None,
  ):
    """Describes a T5.

    Args:
      config: what it is loaded as.
      vocabulary: its tokenizer.
      lengths: tokens of an input and of an answer at most.
      load: reads it.
      identity: of its weights, where that is known before they are read.
    """
    self.vocabulary, self.lengths = vocabulary, lengths
    self._config, self._load, self._identity = config, load, identity
    # The run it is of, if that trained adapters: only saved ones are used.
    self.unused: pathlib.Path | None = None

  def predict(
    self,
    inputs: Sequence[str],
    adapter: Adapter | Sequence[Adapter] | None = None,
    decoder: decoding.Decoder = decoding.Greedy,
    max_length: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
  ) -> list[str]:
    """Its answers under an adapter, or each under its own.

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
    """Of the T5 that adapters must be for; read only if no run names it."""
    return self._identity or self.backbone.identity

  def check(self, info: adapter_folder.Info, where: str) -> None:
    """Refuses adapters of another backbone or tokenizer.

    Raises:
      ValueError: as it says.
    """
    adapter_folder.check_fits(
      info, self.backbone_identity, self.vocabulary.identity, where
    )

  @functools.cached_property
  def backbone(self) -> predicting.Backbone:
    """The T5 that answers, read now."""
    params, identity = self._load()
    return predicting.Backbone(
      self._config, params, identity, self.vocabulary, self.lengths
    )


def load(
  path: str,
  backbone: str | None = None,
  vocabulary: str | None = None,
  lengths: Mapping[str, int] | None = None,
  adapters: Sequence[adapter_folder.Info] = (),
) -> ServedT5:
  """The T5 that answers in a run folder, of whatever it trains, or a T5.

  Args:
    path: the folder; of a t5x checkpoint a URL will do.
    backbone: where the frozen T5 of a run lies now, if it has moved.
    vocabulary: where its tokenizer lies, if not beside it.
    lengths: "inputs" and "targets", tokens at most; by default those of the
      run, or of `adapters`.
    adapters: what it will answer under; what they say, a T5 of another program
      need not be asked.

  Raises:
    ValueError: there is neither, or it is not known how it reads text.
  """
  given = {name: n for name, n in (lengths or {}).items() if n is not None}
  if not formats.is_remote(path):
    folder = restore.existing(path, "--model")
    found = None
    if not formats.formats(folder):
      found = run_folder.look(folder, f"--model {path}")
    if found is not None and not found.record.is_t5_alone:
      return _of_run(found, backbone, vocabulary, given)
  if backbone:
    raise ValueError(
      f"--backbone {backbone} says where the T5 of a run lies; --model {path} "
      "is a T5 itself"
    )
  return _of_t5(path, vocabulary, given, adapters)


def _of_run(
  found: run_folder.Found,
  moved: str | None,
  vocabulary: str | None,
  given: Mapping[str, int],
) -> ServedT5:
  run = run_folder.read(found, vocabulary)
  run_folder.check_moved(run, moved)
  served = ServedT5(
    run.problem.backbone,
    run.vocabulary,
    dataclasses.replace(run.lengths, **given),
    lambda: run_folder.load_backbone(run, None, moved),
    None if run.trains_t5 else run.frozen_t5.identity,
  )
  if found.record.problem.trains_adapters:
    served.unused = run.folder
  return served


def _of_t5(
  path: str,
  vocabulary: str | None,
  given: Mapping[str, int],
  adapters: Sequence[adapter_folder.Info],
) -> ServedT5:
  if formats.is_remote(path):
    source = formats.open_source(path)
  else:
    source = restore.open_t5(restore.existing(path, "--model"))
  config = source.config
  if adapters:  # they tell what a t5x checkpoint does not, and of dtypes
    names = (*source.assumed, "dtype", "param_dtype")
    said = {name: getattr(adapters[0].config, name) for name in names}
    config = dataclasses.replace(config, **said)
  tokenizer = _tokenizer(path, vocabulary, adapters)
  if not adapters and tokenizer.size > config.vocab_size:
    # T5's extra ids are there only where the T5 has room for them.
    tokenizer = dataclasses.replace(tokenizer, extra_ids=0)
  if tokenizer.size > config.vocab_size:
    raise ValueError(
      f"{tokenizer.path} has {tokenizer.size} ids, the T5 {path} only "
      f"{config.vocab_size}: it is another model's (--vocabulary)"
    )

  def read() -> tuple[Any, str]:
    loaded = weights.load(source, config)
    return jax.device_put(loaded.params, jax.devices()[0]), loaded.identity

  return ServedT5(config, tokenizer, _lengths(path, given, adapters), read)


def _lengths(
  path: str,
  given: Mapping[str, int],
  adapters: Sequence[adapter_folder.Info],
) -> Lengths:
  """As asked for, else as all adapters say."""
  found = dict(given)
  for name, option in (("inputs", "input"), ("targets", "max")):
    said = {info.lengths[name] for info in adapters if name in info.lengths}
    if name not in found and len(said) != 1:
      why = "its adapters differ in it" if said else "it is no run that says"
      raise ValueError(
        f"--{option}_length is needed for the T5 {path}: tokens of its {name} "
        f"at most; {why}"
      )
    found.setdefault(name, *said)
  return Lengths(**found)


def _tokenizer(
  path: str, given: str | None, adapters: Sequence[adapter_folder.Info]
) -> SentencePiece:
  """As asked for, else what lies beside the T5, else what adapters name."""
  said = next((x.tokenizer for x in adapters if x.tokenizer), None)
  extra = {"extra_ids": said.extra_ids} if said else {}
  if given is not None:
    if not pathlib.Path(given).is_file():
      raise ValueError(f"--vocabulary {given}: there is no such file")
    return SentencePiece(given, **extra)
  if not formats.is_remote(path):
    beside = pathlib.Path(path).expanduser().absolute() / hf.VOCABULARY
    if beside.is_file():
      return SentencePiece(str(beside), **extra)
  found = None
  if said:
    try:
      found = open_described(said.description, pathlib.Path(path))
    except ValueError as error:
      raise ValueError(f"{error}; --vocabulary says where it is") from error
  if found is None:
    raise ValueError(
      f"--vocabulary is needed: the T5 {path} has no {hf.VOCABULARY}, and "
      "no adapter says which tokenizer it was made with"
    )
  return found
