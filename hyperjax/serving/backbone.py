"""A T5 that answers: parameters, tokenizer, lengths and mesh.

It is of any run, or a folder of its own. A run says what its T5 is and how it reads
text. A T5 of another program does not: its adapters do, or whoever asks.
"""

import contextlib
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hyperjax import trees
from hyperjax.artifacts import (
  adapter_folder,
  restore,
  run_folder,
  tokenizer_of,
)
from hyperjax.batch import Lengths
from hyperjax.data import vocabularies
from hyperjax.data.vocabulary import SentencePiece, Tokenizer
from hyperjax.interop import formats, weights
from hyperjax.models import problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.sharding import Layout, MeshSpec
from hyperjax.trainer import abstract_params

_log = logging.getLogger(__name__)
# Parameters on the host, and their identity.
Read = Callable[[], tuple[Any, str]]


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A T5 on a mesh; its weights are read when they are needed."""

  config: T5Config
  vocabulary: Tokenizer
  lengths: Lengths  # tokens of an input and of an answer at most
  layout: Layout
  read: Read
  named: str | None = None  # its identity, where a run names it
  # The run it is of, if that trained adapters: only saved ones are used.
  unused: pathlib.Path | None = None

  @property
  def identity(self) -> str:
    """Of the T5 that adapters must be for; read only if no run names it."""
    return self.named or self._placed[1]

  @property
  def params(self) -> Any:
    """On the mesh."""
    return self._placed[0]

  def place(self) -> None:
    """Reads the weights now, for whoever wants errors before anything is begun."""
    self.params  # noqa: B018 - a property that reads

  def check(self, info: adapter_folder.Info, where: str) -> None:
    """Refuses adapters of another T5 or tokenizer; of another precision it tells.

    Raises:
      ValueError: as it says.
    """
    adapter_folder.check_fits(
      info, self.identity, self.vocabulary.identity, where
    )
    _tell(where, info.config.quantization, self.config.quantization)

  @contextlib.contextmanager
  def lent(self) -> Iterator["Loan"]:
    """Its parameters, for whoever gives their buffers away and brings back others.

    Where none are brought back, because of an error, they are read again.
    """
    params, identity = self._placed
    del vars(self)["_placed"]
    loan = Loan(params)
    yield loan
    if loan.params is not params:
      vars(self)["_placed"] = loan.params, identity

  @functools.cached_property
  def _placed(self) -> tuple[Any, str]:
    params, identity = self.read()
    alone = problems.LanguageModel(self.config)
    wanted = abstract_params(alone, self.layout)[0]["backbone"]
    return trees.place_params(params, wanted), identity


@dataclasses.dataclass
class Loan:
  """Parameters that are lent; the same values are to be brought back."""

  params: Any


@functools.cache
def _tell(where: str, theirs: str, own: str) -> None:
  """Once for each: an adapter does not depend on it, but was not tried so."""
  if theirs != own:
    _log.warning(
      "%s was made for this T5 with quantization %r; it has %r here",
      *(where, theirs, own),
    )


def load(
  path: str,
  backbone: str | None = None,
  vocabulary: str | None = None,
  lengths: Mapping[str, int] | None = None,
  adapters: Sequence[adapter_folder.Info] = (),
  layout: Layout | None = None,
  quantization: str | None = None,
) -> Backbone:
  """The T5 that answers in a run folder, of whatever it trains, or a T5.

  Args:
    path: the folder; of a t5x checkpoint a URL will do.
    backbone: where the frozen T5 of a run lies now, if it has moved.
    vocabulary: where its tokenizer lies, if not beside it.
    lengths: "inputs" and "targets", tokens at most; by default those of the
      run, or of `adapters`.
    adapters: what it will answer under; what they say, a T5 of another program
      need not be asked.
    layout: the mesh; by default over all devices, each with a copy.
    quantization: as of `T5Config`; None: as a run, or else `adapters` say.

  Raises:
    ValueError: there is neither, or it is not known how it reads text.
  """
  given = {name: n for name, n in (lengths or {}).items() if n is not None}
  layout = layout or MeshSpec().build()
  if not formats.is_foreign(path):
    folder = restore.existing(path, "--model")
    found = None
    if not formats.formats(folder):
      found = run_folder.look(folder, f"--model {path}")
    if found is not None and not found.record.is_t5_alone:
      run = run_folder.read(found, vocabulary)
      run = run_folder.in_precision(run, quantization)
      whole = of_run(run, backbone, layout)
      known = dataclasses.replace(run.lengths, **given)
      return dataclasses.replace(whole, lengths=known)
  if backbone:
    raise ValueError(
      f"--backbone {backbone} says where the T5 of a run lies; --model {path} "
      "is a T5 itself"
    )
  return _of_t5(path, vocabulary, given, adapters, layout, quantization)


def of_run(
  run: run_folder.Trained, moved: str | None, layout: Layout
) -> Backbone:
  """The T5 that answers in a run: what it trained, or the one that it names.

  Args:
    run: of any problem.
    moved: where a frozen T5 lies now, if it has moved.
    layout: the mesh.

  Raises:
    ValueError: `moved` is given for a T5 that is in the run itself.
  """
  run_folder.check_moved(run, moved)
  config = run.problem.backbone

  def read() -> tuple[Any, str]:
    if not run.trains_t5:
      params = restore.named_backbone(run.frozen_t5, config, moved)
      return params, run.frozen_t5.identity
    loaded = weights.load(restore.open_t5(run.folder, run.step), config)
    return loaded.params, loaded.identity

  is_unused = isinstance(run.problem, problems.AdapterFineTuning)
  return Backbone(
    config,
    run.vocabulary,
    run.lengths,
    layout,
    read,
    None if run.trains_t5 else run.frozen_t5.identity,
    run.folder if is_unused else None,
  )


def _of_t5(
  path: str,
  vocabulary: str | None,
  given: Mapping[str, int],
  adapters: Sequence[adapter_folder.Info],
  layout: Layout,
  quantization: str | None,
) -> Backbone:
  if formats.is_foreign(path):
    source = formats.open_source(path)
  else:
    source = restore.open_t5(restore.existing(path, "--model"))
  config = source.config
  if adapters:  # they tell what a t5x checkpoint does not, and of dtypes
    names = (*source.assumed, "dtype", "param_dtype", "quantization")
    said = {name: getattr(adapters[0].config, name) for name in names}
    config = dataclasses.replace(config, **said)
  if quantization is not None:
    config = dataclasses.replace(config, quantization=quantization)
  tokenizer = _tokenizer(path, vocabulary, adapters, config.vocab_size)
  are_silent = not any(info.tokenizer for info in adapters)
  if isinstance(tokenizer, SentencePiece) and are_silent:
    tokenizer = tokenizer.fitted(config.vocab_size)
  tokenizer_of.check_room(tokenizer, config.vocab_size, path)

  def read() -> tuple[Any, str]:
    loaded = weights.load(source, config)
    return loaded.params, loaded.identity

  lengths = _lengths(path, given, adapters)
  return Backbone(config, tokenizer, lengths, layout, read)


def _lengths(
  path: str,
  given: Mapping[str, int],
  adapters: Sequence[adapter_folder.Info],
) -> Lengths:
  """As asked for, else as all adapters say."""
  found = dict(given)
  for name, option in (("inputs", "input"), ("targets", "max")):
    if name in found:
      continue
    said = {info.lengths[name] for info in adapters if name in info.lengths}
    if len(said) != 1:
      why = "its adapters differ in it" if said else "it is no run that says"
      raise ValueError(
        f"--{option}_length is needed for the T5 {path}: tokens of its {name} "
        f"at most; {why}"
      )
    [found[name]] = said
  return Lengths(**found)


def _tokenizer(
  path: str,
  given: str | None,
  adapters: Sequence[adapter_folder.Info],
  vocab_size: int,
) -> Tokenizer:
  """As asked for, else what lies beside the T5, else what adapters name."""
  said = next((x.tokenizer for x in adapters if x.tokenizer), None)
  if given is not None:
    vocabularies.check_here(given)
    if said is None:
      return vocabularies.named(given)
    return vocabularies.named_as(given, said.description)
  beside = tokenizer_of.of_t5(path, vocab_size)
  if beside is not None:
    if said is not None and isinstance(beside, SentencePiece):
      # The same model, perhaps with other extra ids.
      return vocabularies.named_as(beside.path, said.description)
    return beside
  found = None
  if said:
    try:
      found = vocabularies.open_described(
        said.description, formats.folder_of(path)
      )
    except ValueError as error:
      raise ValueError(f"{error}; --vocabulary says where it is") from error
  if found is None:
    raise ValueError(
      f"--vocabulary is needed: the T5 {path} has no "
      f"{vocabularies.SENTENCEPIECE} and no tokenizer.json beside it, and no "
      "adapter says which tokenizer it was made with"
    )
  return found
