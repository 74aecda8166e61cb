"""The command line. Only this module imports gin, and only when needed."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import paths
from hyperjax.commands import (
  arguments,
  compiled,
  extras,
  gin_package,
  gin_values,
  interrupts,
  mistakes,
  out_of_memory,
  plan,
  quiet,
  restarting,
  waiting,
)
from hyperjax.commands.gin_values import UsageError
from hyperjax.commands.hosts import joining, wire

_RECORDS = "tasks/records.gin"  # what is shown where no gin file is given
_OF_DATA = ("cache", "tasks", "inspect")
_TELLS_ITSELF = ("serve",)  # what it is doing, and it works until it is stopped
# What a command does without, where it is REQUIRED otherwise.
_FREE: dict[str, Mapping[str, Any]] = {
  "plan": gin_package.NOT_PLANNED,
  **dict.fromkeys(_OF_DATA, gin_package.NOT_DATA),
}


_UNREAD = 141  # exit status, as of what SIGPIPE ends
_REFUSALS = (UsageError, ValueError, FloatingPointError, OSError, wire.Failed)


def main(given: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit status."""
  given = sys.argv[1:] if given is None else given
  try:
    known, rest = parse(given)
  except UsageError as error:
    command = given[0] if given[0] in arguments.ALL else ""
    print(f"hyperjax {command}".rstrip() + f": {error}", file=sys.stderr)
    return 1 if command else 2
  except BrokenPipeError:
    return _unread()
  if known.command is None:
    arguments.parser().print_help()
    return 2
  logging.basicConfig(
    level=logging.INFO if known.verbose else logging.WARNING,
    format="%(levelname)s %(name)s: %(message)s",
  )
  logging.getLogger("hyperjax").setLevel(logging.INFO)
  if restarting.is_asked(known):
    return restarting.supervise(given, known.restarts)
  if not known.verbose:
    quiet.libraries()
  # Modules of the user's: TASK_MODULES, classes that gin files name.
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  try:
    if known.command in arguments.PLAIN:
      spoken_of: contextlib.AbstractContextManager[object]
      spoken_of = waiting.Waiting(known.command, says_work=True)
      if known.command in _TELLS_ITSELF:
        spoken_of = contextlib.nullcontext()
      with interrupts.kept(), spoken_of:
        return arguments.PLAIN[known.command][1].run(known) or 0
    return _execute(known, rest)
  except KeyboardInterrupt:
    print(f"hyperjax {known.command}: interrupted", file=sys.stderr)
    return 130
  except Exception as error:
    if isinstance(error, BrokenPipeError) and _is_unread():
      return _unread()
    lacking = out_of_memory.found(known.command, error)
    if lacking is None and not isinstance(error, _REFUSALS):
      lacking = paths.sentence(error) or extras.lacking(known.command, error)
    restarting.report(error)
    is_users = isinstance(error, _REFUSALS) or lacking is not None
    # The loop's own exception, without importing the loop for --help.
    has_stopped = type(error).__name__ == "Stopped"
    if (is_users and known.verbose) or not (is_users or has_stopped):
      raise
    print(f"hyperjax {known.command}: {lacking or error}", file=sys.stderr)
    return getattr(error, "status", 143) if has_stopped else 1


def _is_unread() -> bool:
  """Whether nobody reads what is printed, such as after `| head`."""
  try:
    sys.stdout.flush()
  except BrokenPipeError:
    return True
  return False


def _unread() -> int:
  """Ends in silence: what is left in the buffer could not be printed either."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return _UNREAD


def parse(given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """A command line's options, and what of it is left for gin.

  Raises:
    UsageError: a command or an option does not exist, or a value stands alone.
  """
  whole = arguments.parser()
  mistakes.check(whole, given)
  # argparse takes what holds a blank, such as --gin.A=(1, 2), for no option.
  overrides = [x for x in given if x.startswith("--gin.") and "=" in x]
  known, rest = whole.parse_known_args([x for x in given if x not in overrides])
  mistakes.left_over(whole, known.command, rest)
  return known, [*rest, *overrides]


def _execute(known: argparse.Namespace, rest: Sequence[str]) -> int:
  """Builds what gin files describe, and runs it; returns the exit status."""
  if known.command == "plan":
    plan.prepare(known)
  with contextlib.ExitStack() as stack:
    stack.enter_context(interrupts.kept())
    if known.command in ("train", "eval"):  # the others take no partners
      stack.enter_context(joining.joined(known))
      compiled.keep()
    run, config = build_parsed(known, rest)
    if known.command == "train" and not known.process_index:
      stack.enter_context(waiting.Waiting("train", says_work=False))
    status = run.execute(config)
  return status if known.command == "plan" else 0


def build_parsed(
  known: argparse.Namespace, rest: Sequence[str]
) -> tuple[Any, str]:
  """What a parsed command line describes, as `build`."""
  return build(
    known.command,
    known.gin_file,
    known.gin_bindings,
    known.gin_search_paths,
    [*rest, *arguments.as_gin(known)],
    known,
  )


def build(
  command: str,
  gin_files: Sequence[str],
  gin_bindings: Sequence[str] = (),
  gin_search_paths: str = "",
  overrides: Sequence[str] = (),
  options: argparse.Namespace | None = None,
) -> tuple[Any, str]:
  """The run that gin files describe, and its operative configuration.

  Args:
    command: a name of `hyperjax --help`.
    gin_files: in order; later ones win.
    gin_bindings: lines of gin, read after the files.
    gin_search_paths: comma-separated folders searched first.
    overrides: arguments of the form --gin.NAME=VALUE, read last.
    options: those of `tasks` and `inspect`.

  Raises:
    UsageError: a file is missing, a macro is unknown or not set, or the
      bindings do not describe a run.
  """
  import gin
  from gin import config as gin_config

  is_of_tasks = command == "tasks" or getattr(options, "task", None)
  hint = ", or the name of a task" if command == "inspect" else ""
  gin_files = gin_files or ([_RECORDS] if is_of_tasks else [])
  if not gin_files:
    raise UsageError(
      f"--gin_file is needed, such as --gin_file=runs/mtf_sni.gin{hint}"
    )
  logging.getLogger().addFilter(_is_worth_showing)
  try:
    # gin would also look for runs/x.gin in a Python package named runs, and fails
    # where a folder of that name, such as one of results, only looks like one.
    gin_config._FILE_READERS[:] = [(open, os.path.isfile)]  # noqa: SLF001
    folders = [
      *filter(None, gin_search_paths.split(",")),
      str(gin_package.FOLDER),
    ]
    for folder in folders:
      gin.add_config_file_search_path(folder)
    gin_values.parse_gin(gin, gin_files, gin_bindings, overrides, folders)
    gin_values.check_set(gin, gin_files, _FREE.get(command, {}))
  finally:
    logging.getLogger().removeFilter(_is_worth_showing)
  if is_of_tasks:
    return _of_tasks(gin, command, options), ""
  return _run(gin, command, hint, options), gin.operative_config_str()


def _run(gin: Any, command: str, hint: str, options: Any) -> Any:
  """What the gin files bind for a command, executable."""
  from hyperjax import runs  # imports jax
  from hyperjax.commands import inspect

  kinds = [arguments.COMMANDS[command][0]]
  if command == "cache":
    kinds += ["Train", "Evaluate"]  # the tokens that such a run would read
  if command == "plan":
    kinds += ["Evaluate"]
  bound = [kind for kind in kinds if _scopes(gin, f"runs.{kind}")]
  if not bound:
    raise UsageError(
      f"the gin files bind nothing of runs.{kinds[0]}, which `hyperjax "
      f"{command}` needs{hint}: are they of another command?"
    )
  if command in _OF_DATA and bound[0] != "Cache":
    gin.parse_config(gin_package.ANY_PROBLEM.format(bound[0]))
  if command == "eval" and "ADAPTERS" in gin_values.macros(gin):
    gin.parse_config("runs.Evaluate.adapters = %ADAPTERS")
  if command == "plan":
    gin.parse_config(gin_package.planned(bound[0], gin_values.macros(gin)))
  make = gin.get_configurable(getattr(runs, bound[0]))
  try:
    run = make()
  except (TypeError, ValueError, RecursionError) as error:
    message = gin_package.refusal(error, gin.config._CONFIG)  # noqa: SLF001
    raise UsageError(message) from error
  if command == "cache":
    return runs.Cache(tuple(run.task_sets))
  if command == "inspect":
    return inspect.of_run(run.data, run.seed, options)
  return plan.PlanOf(run, options) if command == "plan" else run


def _of_tasks(gin: Any, command: str, options: Any) -> Any:
  """What shows registered tasks, or one of them; it takes no run."""
  from hyperjax.commands import inspect, tasks
  from hyperjax.data.store import seqio_store

  task_sets = [seqio_store.SeqioTasks("")]
  scopes = _scopes(gin, "seqio_store.SeqioTasks")
  if scopes:
    make = gin.get_configurable(seqio_store.SeqioTasks)
    task_sets.clear()
    for scope in sorted({"", *scopes}):
      with gin.config_scope(scope or None):
        task_sets.append(make(""))
  if command == "tasks":
    return tasks.ListTasks(
      task_sets, options.filter, options.split, options.counts
    )
  return inspect.of_task(task_sets, options)


def _scopes(gin: Any, selector: str) -> list[str]:
  """The scopes in which a parameter of something is bound."""
  return [
    scope
    for scope, found in gin.config._CONFIG  # noqa: SLF001
    if found.endswith(selector)
  ]


def _is_worth_showing(record: logging.LogRecord) -> bool:
  """Gin logs an error for every place where it looks for a file in vain."""
  return not str(record.msg).startswith("Path not found")


def run() -> None:
  """The `hyperjax` program."""
  joining.run(main)


if __name__ == "__main__":
  run()
