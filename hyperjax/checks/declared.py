"""Rules read from annotations: of dataclasses' fields, of functions' parameters.

Once for each class or function. Whatever is annotated has a rule: a number the one
that is declared, all else its type. A number without a declaration is a mistake of
whoever wrote it, a TypeError.
"""

import collections.abc
import dataclasses
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hyperjax.checks import rules
from hyperjax.checks.rules import Rule

_Function = TypeVar("_Function", bound=Callable[..., Any])


def fields(value: Any) -> None:
  """Refuses a dataclass with a field that its declaration does not allow.

  A field may have its default, whatever that is: None, say, for what is filled in
  later.

  Raises:
    ValueError: it names the class and the field, as gin does.
  """
  kind = type(value)
  for name, (rule, default) in rules_of(kind).items():
    own = getattr(value, name)
    if own is not default:
      rule.check(f"{kind.__name__}.{name}", own)


def arguments(function: _Function) -> _Function:
  """A function that refuses arguments that its declarations do not allow."""
  signature = inspect.signature(function)

  @functools.wraps(function)
  def checked(*args: Any, **named: Any) -> Any:
    found = rules_of(function)
    for name, own in signature.bind(*args, **named).arguments.items():
      rule, default = found.get(name, (None, None))
      if rule is not None and own is not default:
        rule.check(f"{function.__name__}.{name}", own)
    return function(*args, **named)

  return typing.cast(_Function, checked)


@functools.cache
def rules_of(made: Any) -> Mapping[str, tuple[Rule, Any]]:
  """Rule and default of each field of a dataclass, or parameter of a function.

  Raises:
    TypeError: one is a number without a rule.
  """
  hints = typing.get_type_hints(made, include_extras=True)
  if dataclasses.is_dataclass(made):
    defaults = {each.name: each.default for each in dataclasses.fields(made)}
  else:
    parameters = inspect.signature(made).parameters
    defaults = {name: each.default for name, each in parameters.items()}
  found = {}
  for name in defaults.keys() & hints.keys():
    try:
      found[name] = rule_of(hints[name]), defaults[name]
    except TypeError as error:
      owner = getattr(made, "__qualname__", made)
      raise TypeError(f"{owner}.{name}: {error}") from error
  return {name: found[name] for name in defaults if name in found}


def rule_of(hint: Any) -> Rule:
  """The rule of an annotation; a rule itself is its own.

  Raises:
    TypeError: there is a number in it without one.
  """
  if isinstance(hint, Rule):
    return hint
  if hint in (int, float, complex):
    raise TypeError(
      f"{hint.__name__} without a rule: Annotated[{hint.__name__}, ...] says "
      "which are allowed (hyperjax.checks)"
    )
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    declared = [own for own in inner[1:] if isinstance(own, Rule)]
    return declared[0] if declared else rule_of(inner[0])
  if origin in (typing.Union, types.UnionType):
    return _AnyOf(tuple(map(rule_of, inner)))
  if origin is tuple and inner[-1] is not Ellipsis:
    return _Parts(tuple(map(rule_of, inner)))
  if origin in (tuple, list, collections.abc.Sequence):
    return _Each(rule_of(inner[0]))
  if origin in (dict, collections.abc.Mapping):
    return _Values(rule_of(inner[1]))
  if hint is type(None):
    return _Kind(type(None), "None")
  if hint is bool:
    return _Kind(bool, "True or False")
  if hint is str:
    return _Kind((str, os.PathLike), "a text")
  if isinstance(hint, type) and hint not in (object, Any):
    if getattr(hint, "_is_protocol", False):
      return _Like(hint)
    return _Kind(hint, _named(hint))
  return _Anything()


class _Anything(Rule):
  """Of what no annotation says more."""

  @property
  def words(self) -> str:
    return "anything"

  def allows(self, value: Any) -> bool:
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class _Kind(Rule):
  """An instance of a class."""

  kind: Any
  what: str

  @property
  def words(self) -> str:
    return self.what

  def allows(self, value: Any) -> bool:
    return isinstance(value, self.kind)


@dataclasses.dataclass(frozen=True, eq=False)
class _Like(Rule):
  """Whatever has the attributes of a protocol."""

  protocol: type

  @property
  def words(self) -> str:
    return _named(self.protocol)

  def allows(self, value: Any) -> bool:
    names = [name for name in vars(self.protocol) if name[0] != "_"]
    return all(hasattr(value, name) for name in names)


@dataclasses.dataclass(frozen=True, eq=False)
class _AnyOf(Rule):
  """What one of several rules allows; None is often one of them."""

  each: tuple[Rule, ...]

  @property
  def words(self) -> str:
    *most, last = (rule.words for rule in self.each)
    return f"{', '.join(most)}, or {last}" if most else last

  def allows(self, value: Any) -> bool:
    return any(rule.allows(value) for rule in self.each)

  def fault(self, name: str, value: Any) -> str | None:
    fault = super().fault(name, value)
    some = [rule for rule in self.each if rule.words != "None"]
    if fault is None or len(some) > 1:
      return fault
    # What one rule says of a value may be more than that it is wrong.
    own = some[0].fault(name, value) or fault
    return own.replace(some[0].words, self.words, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Each(Rule):
  """A list of what one rule allows."""

  rule: Rule

  @property
  def words(self) -> str:
    return f"a list, of which each is {self.rule.words}"

  def allows(self, value: Any) -> bool:
    return rules.is_list(value) and all(map(self.rule.allows, value))


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts(Rule):
  """A list of a given length, each place with a rule of its own."""

  each: tuple[Rule, ...]

  @property
  def words(self) -> str:
    return f"({', '.join(rule.words for rule in self.each)})"

  def allows(self, value: Any) -> bool:
    return (
      rules.is_list(value)
      and len(value) == len(self.each)
      and all(
        rule.allows(own) for rule, own in zip(self.each, value, strict=True)
      )
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Values(Rule):
  """A mapping from any names to what one rule allows."""

  rule: Rule

  @property
  def words(self) -> str:
    return f"a mapping to {self.rule.words}"

  def allows(self, value: Any) -> bool:
    return isinstance(value, Mapping) and all(
      map(self.rule.allows, value.values())
    )


def _named(kind: type) -> str:
  """A class in words; of one that only says what others are, those too."""
  kinds = sorted(own.__name__ for own in kind.__subclasses__())
  if inspect.isabstract(kind) and kinds:
    return f"a {kind.__name__} ({', '.join(kinds)})"
  return f"a {kind.__name__} of {kind.__module__}"
