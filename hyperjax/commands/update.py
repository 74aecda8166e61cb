"""`hyperjax adapt --update`: an adapter folder with further examples."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperjax import paths
from hyperjax.commands import model_options

if TYPE_CHECKING:
  from hyperjax import serving
  from hyperjax.artifacts.adapter_folder import Adapter
  from hyperjax.serving.examples import Example, Fitted
  from hyperjax.serving.fields import Fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--keep_encoded",
    action=argparse.BooleanOptionalAction,
    help="keep beside the adapter what makes updates of it exact, for models "
    "that encode each demonstration by itself; an exact update keeps it on",
  )
  group = parser.add_argument_group(
    "updates", "an adapter gets further examples, its old ones are not read"
  )
  group.add_argument(
    "--update",
    type=paths.argument,
    metavar="FOLDER",
    help="the adapter that the examples are added to; --out may be the same "
    "folder, with --overwrite",
  )
  group.add_argument(
    "--by_mean",
    action="store_true",
    help="take the mean of the old and the new examples' adapters, which is "
    "approximate, also where an update could be exact",
  )
  group.add_argument(
    "--check",
    default=[],
    nargs="+",
    type=paths.argument,
    metavar="FILE",
    help="the old examples: all are read at once, and how far the update is "
    "from that is printed",
  )
  group.add_argument(
    "--check_inputs",
    type=paths.argument,
    metavar="FILE",
    help="inputs that both adapters answer, as for predict",
  )


def check(arguments: argparse.Namespace) -> None:
  """Refuses options that do not go together.

  Raises:
    ValueError: as it says.
  """
  if arguments.check_inputs and not arguments.check:
    raise ValueError(
      "--check_inputs compares answers with those after reading all examples "
      "at once, so it needs the old ones (--check)"
    )
  if arguments.update is None:
    for option in ("by_mean", "check"):
      if getattr(arguments, option):
        raise ValueError(f"--{option} is of updates: it needs --update")
    return
  if arguments.instruction is not None:
    raise ValueError(
      f"--update keeps the instruction of {arguments.update}, if it has one: "
      "--instruction cannot change it"
    )
  if len(arguments.examples) != 1:
    raise ValueError(
      f"--update takes one file of --examples, got {len(arguments.examples)}"
    )
  if arguments.by_mean and arguments.keep_encoded:
    raise ValueError(
      "--by_mean and --keep_encoded exclude each other: after a mean, what is "
      "kept would be of other arrays"
    )


def run(arguments: argparse.Namespace) -> None:
  """Writes the updated adapter; on an error nothing.

  Raises:
    ValueError: a file or the folder is broken, the folder is of another model
      or lacks what an exact update needs, or no example fits.
  """
  from hyperjax.artifacts import adapter_folder
  from hyperjax.commands import compiled, fitted_examples, reading_options
  from hyperjax.serving import (
    examples,
    remarks,
    update,  # imports jax
  )

  [path], folder = arguments.examples, arguments.update
  fields = reading_options.read(arguments)
  given, noted, doubts = examples.read_noted(path, fields)
  olds = [examples.read_noted(old, fields) for old in arguments.check]
  old_examples = [x for old in olds for x in old.found]
  doubts = [*doubts, *(x for old in olds for x in old.warnings)]
  asked, warned = _asked(arguments.check_inputs, fields)
  doubts += warned
  reading_options.warn("adapt", doubts)
  adapter_folder.check_free(arguments.out, arguments.overwrite)
  old = adapter_folder.read(folder, with_encoded=not arguments.by_mean)
  compiled.keep()
  model = model_options.load(arguments)
  if arguments.keep_encoded:
    model.check_keeps()
  model.check_update(old, arguments.by_mean, folder)
  with fitted_examples.naming(path):
    fitted = model.fit_more(old, given, arguments.by_mean)
  if arguments.check:
    old_examples = update.choose(old_examples, old.info, folder)
  new = model.write_more(old, fitted, arguments.by_mean)
  lines = fitted_examples.report(
    path, arguments.out, [fitted], model, given=given
  )
  lines += _report(old, new, fitted, model)
  if arguments.verdict:
    new, line = _checked(old, new, given, model, arguments.metric)
    lines.append(line)
  if noted := [*noted, *remarks.of(model, given)]:
    lines.append(f"  note: {'; '.join(noted)}")
  if arguments.check:
    every = [*old_examples, *fitted.kept]
    lines += _distance(model, new, every, asked)
  if arguments.keep_encoded is False:
    new = dataclasses.replace(new, encoded=None)
  new.save(arguments.out, arguments.overwrite)
  print("\n".join(lines), flush=True)


def _asked(
  path: pathlib.Path | None, fields: "Fields"
) -> tuple[list[str], Sequence[str]]:
  """The inputs of a file, if there is one, and what is odd about it."""
  if path is None:
    return [], ()
  from hyperjax.serving import inputs

  # Inputs need no output, whatever those of examples are called.
  own = dataclasses.replace(fields, output=None)
  questions = inputs.read_noted(path, own)
  return [question.input for question in questions.found], questions.warnings


def _checked(
  old: "Adapter",
  new: "Adapter",
  given: Sequence["Example"],
  model: "serving.Model",
  metric: str | None,
) -> tuple["Adapter", str]:
  """The new adapter, which says how the old one did on what is added."""
  from hyperjax.serving import verdict

  found = verdict.check_adapter(
    model, old, given, metric=metric or verdict.DEFAULT_METRIC
  )
  made = found.as_json_of(old.identity, "before these examples")
  return verdict.with_check(new, made), f"  check: {made['sentence']}"


def _report(
  old: "Adapter", new: "Adapter", fitted: "Fitted", model: "serving.Model"
) -> list[str]:
  """How the update was made, and what is to be known of it."""
  from hyperjax.serving import update

  count = new.info.origin["demonstrations"]["count"]
  before = count - len(fitted.kept)
  made = new.info.origin["updates"][-1]
  if made["by"] == update.ENCODED:
    lines = [
      f"  exact: written from what the encoder gave of {before} examples "
      f"before, and of {len(fitted.kept)} now"
    ]
    assert new.encoded is not None
    rows, most = new.encoded.num_rows, model.lengths.num_demonstrations
    if rows > most:
      lines.append(f"  {rows} rows are read, in training at most {most}")
  else:
    lines = [
      f"  approximate: the mean of two adapters, by their {before} and "
      f"{len(fitted.kept)} examples"
    ]
    if "left_out" in made:
      what = (
        "the oldest positions fell out"
        if new.info.spec.keeps_read
        else "cut to the rank of either"
      )
      lines.append(
        f"  {what}, which leaves out {made['left_out']:.2g} of the mean's norm"
      )
  again = update.repeated(old.info, fitted)
  if again:
    shown = ", ".join(str(example.line) for example in again[:10])
    lines.append(
      f"  {len(again)} were read before, and count twice now: lines {shown}"
    )
  return lines


def _distance(
  model: "serving.Model",
  adapter: "Adapter",
  every: Sequence["Example"],
  asked: Sequence[str],
) -> list[str]:
  found = model.distance(adapter, every, asked)
  lines = [
    f"  against {found.num_examples} of {len(every)} examples read at once: "
    f"arrays differ by {found.arrays:.2g} at most, relative"
  ]
  answers = found.answers
  if answers is not None:
    lines.append(
      f"  {answers.count} inputs: {100 * answers.equal:.1f}% of answers equal, "
      f"divergence {answers.divergence:.2g} nats a token"
    )
  return lines
