"""What a Python program gives: examples, inputs and adapters, understood or refused.

A string is a sequence of strings, and a pair of letters a pair: what would so be
taken for something else is refused here, with what was meant instead.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperjax import paths
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.serving import examples
from hyperjax.serving.examples import Example
from hyperjax.serving.fields import INPUT, OUTPUT

# A pair is an input and its output; a mapping has them by these names.
GivenExample = Example | tuple[str, str] | Mapping[str, str]
Folder = str | os.PathLike[str]
# Examples, or the file that holds them.
GivenExamples = Iterable[GivenExample] | Folder
# An adapter, or its folder.
GivenAdapter = Adapter | Folder


def as_examples(given: GivenExamples, name: str = "examples") -> list[Example]:
  """Examples of pairs, mappings, or a file such as `hyperjax adapt` reads.

  Args:
    given: all of them.
    name: of what is given, for messages.

  Raises:
    ValueError: it is none of them; the message names the example.
  """
  if isinstance(given, str | os.PathLike):
    path = paths.at(given)
    if not path.is_file():
      raise ValueError(
        f"{name} must be pairs of an input and its output, or a file of them; "
        f"there is no file {path}"
      )
    noted = examples.read_noted(path)
    for line in noted.warnings:
      warnings.warn(line, stacklevel=3)
    return noted.found
  if isinstance(given, Mapping | Example):
    raise ValueError(
      f"{name} must be a list of pairs; got one {type(given).__name__}: put it "
      "into a list"
    )
  if not isinstance(given, Iterable):
    raise ValueError(
      f"{name} must be pairs of an input and its output, or a file of them; got "
      f"{given!r:.80}"
    )
  return [_as_example(one, f"{name}[{i}]") for i, one in enumerate(given)]


def _as_example(one: Any, name: str) -> Example:
  if isinstance(one, Example):
    return one
  pair = one
  if isinstance(one, Mapping) and {INPUT, OUTPUT} <= one.keys():
    pair = [one[INPUT], one[OUTPUT]]
  is_pair = (
    isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
  )
  if not is_pair or not all(isinstance(text, str) for text in pair):
    raise ValueError(
      f"{name} must be a pair of texts, an input and its output; "
      f"got {one!r:.80}"
    )
  given, output = pair
  return Example(given, output)


def as_inputs(given: Iterable[str]) -> list[str]:
  """Inputs as a list of texts.

  Raises:
    ValueError: they are something else; the message names the input.
  """
  if isinstance(given, str):
    raise ValueError(
      f"inputs must be a list of texts; got one text: give [{given!r:.60}]"
    )
  if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
    raise ValueError(f"inputs must be a list of texts; got {given!r:.80}")
  found = list(given)
  for number, text in enumerate(found):
    if not isinstance(text, str):
      raise ValueError(f"inputs[{number}] must be a text; got {text!r:.80}")
  return found


def as_adapter(given: GivenAdapter, with_encoded: bool = False) -> Adapter:
  """An adapter, read if its folder is given.

  Raises:
    ValueError: it is neither, or the folder is none of an adapter.
  """
  if isinstance(given, Adapter):
    return given
  if isinstance(given, str | os.PathLike):
    return adapter_folder.read(given, with_encoded)
  raise ValueError(
    "an adapter must be what adapt() or read_adapter() gives, or its folder; "
    f"got {given!r:.80}"
  )


def as_adapters(
  given: GivenAdapter | Sequence[GivenAdapter | None] | None,
) -> Adapter | list[Adapter | None] | None:
  """One adapter for all inputs, one or none for each, or none.

  Raises:
    ValueError: as for `as_adapter`.
  """
  if given is None or isinstance(given, Adapter | str | os.PathLike):
    return None if given is None else as_adapter(given)
  if not isinstance(given, Sequence):
    return as_adapter(given)  # refuses it
  read: dict[str, Adapter] = {}
  for one in given:
    if isinstance(one, str | os.PathLike) and os.fspath(one) not in read:
      read[os.fspath(one)] = as_adapter(one)
  found: list[Adapter | None] = []
  for one in given:
    if isinstance(one, str | os.PathLike):
      found.append(read[os.fspath(one)])
    else:
      found.append(None if one is None else as_adapter(one))
  return found
