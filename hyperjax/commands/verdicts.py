"""What `adapt` says of whether its adapters are any good, and its exit status."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hyperjax import checks, paths
from hyperjax.commands import fitted_examples
from hyperjax.scores import text_metrics

if TYPE_CHECKING:
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving.verdict import Verdict

UNMET = 4  # exit status
_ONLY_WITH = ("metric", "require", "shared")  # a verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verdict and of which examples are read."""
  group = parser.add_argument_group(
    "the check",
    "each example is answered by an adapter written without it, and by the plain "
    "T5; of more than 16 examples in 16 parts; of an update the new ones, by the "
    "adapter before",
  )
  group.add_argument(
    "--verdict",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="whether there is one (yes); it takes passes of the T5",
  )
  group.add_argument(
    "--metric",
    choices=list(text_metrics.METRICS),
    help="of answers (equal: exact match, white space aside)",
  )
  checks.add_option(
    group,
    "--require",
    checks.Share,
    f"the least score; below it the exit status is {UNMET}",
    metavar="SHARE",
  )
  group.add_argument(
    "--shared",
    type=paths.argument,
    metavar="FOLDER",
    help="an adapter to compare with, such as one that all tasks share",
  )
  parser.add_argument(
    "--select",
    choices=["first", "diverse", "best", "average"],
    help="which examples are read where not all fit: the first (the default); "
    "diverse ones; of some choices the one that serves the others best; or all, in "
    "groups whose adapters are averaged",
  )


def check(arguments: argparse.Namespace) -> None:
  """Refuses options that do not go together.

  Raises:
    ValueError: as it says.
  """
  if arguments.update is not None:
    for name in ("require", "shared", "select"):
      if getattr(arguments, name) is not None:
        raise ValueError(
          f"--{name} is not of updates: what is added is answered by the adapter "
          "before, and nothing is held out of the examples that it has"
        )
  if not arguments.verdict:
    for name in _ONLY_WITH:
      if getattr(arguments, name) is not None:
        raise ValueError(f"--{name} is of the check, which --no-verdict omits")
  if arguments.keep_encoded and arguments.select == "average":
    raise ValueError(
      "--keep_encoded and --select average exclude each other: what is kept "
      "would be of other arrays"
    )


def shared(arguments: argparse.Namespace) -> "Adapter | None":
  """The adapter to compare with, if one is named.

  Raises:
    ValueError: it is none, or damaged.
  """
  if arguments.shared is None:
    return None
  from hyperjax.artifacts import adapter_folder

  with fitted_examples.naming("--shared"):
    return adapter_folder.read(arguments.shared)


def check_shared(
  arguments: argparse.Namespace, model: Any, other: "Adapter | None"
) -> None:
  """Refuses one that is not of the model's T5.

  Raises:
    ValueError: as it says.
  """
  if other is not None:
    with fitted_examples.naming("--shared"):
      model.backbone.check(other.info, str(arguments.shared))


def made(
  arguments: argparse.Namespace,
  model: Any,
  given: Sequence[Any],
  other: "Adapter | None",
) -> "list[Verdict] | None":
  """The verdict on each file of examples, if there are to be any."""
  if not arguments.verdict:
    return None
  from hyperjax.serving import verdict

  return verdict.check_all(
    model,
    given,
    arguments.instruction,
    metric=arguments.metric or verdict.DEFAULT_METRIC,
    select=arguments.select or "first",
    shared=other,
  )


def status(
  least: float | None, verdicts: "Sequence[tuple[Any, Verdict]]"
) -> int:
  """The exit status, after a line about adapters that do not meet `least`.

  Args:
    least: the score that is required, if any.
    verdicts: with the folder of each adapter.
  """
  if least is None:
    return 0
  unmet = [
    f"{folder} ({'unknown' if x.score is None else f'{x.score:.2f}'})"
    for folder, x in verdicts
    if not x.meets(least)
  ]
  if not unmet:
    return 0
  more = f" and {len(unmet) - 5} more" if len(unmet) > 5 else ""
  print(
    f"hyperjax adapt: {len(unmet)} of {len(verdicts)} adapters do not reach "
    f"--require={least:g}: {', '.join(unmet[:5])}{more}",
    file=sys.stderr,
  )
  return UNMET
