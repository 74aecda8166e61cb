r"""Parameters of a run that begin as those of another name in another run.

`Train.assignment_map` is a list of rules, as t5x has them:

  runs.Train.assignment_map = [
    (r"hypermodel/encoder/(.*)", r"backbone/encoder/\1"),
    (r"hypermodel/head/.*", None),
  ]

The first rule whose pattern matches the whole path of a parameter says what it
begins as: the array of that path in INITIAL_CHECKPOINT_PATH, where \1 is what the
first bracket matched; or None: it is drawn. Without a rule it is its namesake. All
must be there and of the same shape, and each rule must match something.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import trees

AssignmentMap = Sequence[Sequence[Any]]


def check(rules: Any, initial: str | None) -> None:
  """Refuses rules that are none, or that have nothing to be of.

  Raises:
    ValueError: names the rule.
  """
  name = "Train.assignment_map"
  if rules is None:
    return
  if initial is None:
    raise ValueError(
      f"{name} is given, but INITIAL_CHECKPOINT_PATH is None: there is nothing "
      "to take parameters from"
    )
  if isinstance(rules, str) or not isinstance(rules, Sequence):
    raise ValueError(
      f"{name} must be a list of (pattern, path or None), got {rules!r:.80}"
    )
  for rule in rules:
    is_pair = isinstance(rule, Sequence) and len(rule) == 2
    if isinstance(rule, str) or not is_pair:
      raise ValueError(
        f"{name} must be a list of (pattern, path or None), got {rule!r:.80}"
      )
    pattern, source = rule
    try:
      number = re.compile(pattern).groups
      if source is not None:
        # A pattern with as many groups, all of which match.
        re.sub("()" * number, source, "", count=1)
    except (re.error, TypeError, IndexError) as error:
      raise ValueError(f"{name}: {rule!r:.120}: {error}") from error


def assigned(
  rules: AssignmentMap, wanted: Mapping[str, Any]
) -> dict[str, str | None]:
  """Where each parameter comes from, by its path; None of what is drawn.

  Raises:
    ValueError: a rule matches nothing.
  """
  found: dict[str, str | None] = {}
  unused = list(range(len(rules)))
  for path in wanted:
    found[path] = path
    for i, (pattern, source) in enumerate(rules):
      match = re.fullmatch(pattern, path)
      if match is not None:
        found[path] = None if source is None else match.expand(source)
        if i in unused:
          unused.remove(i)
        break
  if unused:
    listed = trees.listing([repr(rules[i][0]) for i in unused])
    raise ValueError(
      f"Train.assignment_map: these match no parameter that no earlier rule has"
      f":{listed}"
    )
  return found
