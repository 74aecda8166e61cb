"""`hyperjax adapt --steps`: written adapters trained further on their examples."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperjax import checks

if TYPE_CHECKING:
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving.examples import Pool
  from hyperjax.serving.model import Model
  from hyperjax.serving.tuning import Tuned


def add_arguments(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group(
    "training further",
    "an adapter is trained by back-propagation on the examples that it was written "
    "from, and those without room; with 8 or more a quarter is held out to find the "
    "number of steps. The check is of adapters as written",
  )
  checks.add_option(group, "--steps", checks.Count, "at most (none)")
  checks.add_option(
    group,
    "--learning_rate",
    checks.Positive,
    "of these steps (by kind)",
    metavar="RATE",
  )


def check(arguments: argparse.Namespace) -> None:
  """Refuses options that do not go together.

  Raises:
    ValueError: as it says.
  """
  if arguments.steps is None:
    if arguments.learning_rate is not None:
      raise ValueError(
        "--learning_rate is of training further: it needs --steps"
      )
    return
  if arguments.update is not None:
    raise ValueError(
      "--steps and --update exclude each other: an update does not read the old "
      "examples, which training would need"
    )
  if arguments.keep_encoded:
    raise ValueError(
      "--steps and --keep_encoded exclude each other: what is kept would be of "
      "other arrays"
    )


def made(
  arguments: argparse.Namespace,
  model: "Model",
  pools: "Sequence[Pool]",
  written: "Sequence[Adapter]",
) -> "list[tuple[Adapter, Tuned | None]]":
  """The adapters, trained further where that is asked for, and how that went."""
  if arguments.steps is None:
    return [(adapter, None) for adapter in written]
  from hyperjax.serving import selection, tuner, tuning, verdict

  how = tuning.Tuning(
    arguments.steps,
    arguments.learning_rate,
    metric=arguments.metric or verdict.DEFAULT_METRIC,
  )
  tasks = [tuner.Task(*own) for own in zip(pools, written, strict=True)]
  return [
    *tuner.further(model, tasks, how, arguments.select or selection.FIRST)
  ]
