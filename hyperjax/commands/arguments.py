"""What the command line takes; imports nothing heavy, so that --help is quick."""

import argparse
import importlib
import sys
from typing import Any

import hyperjax
from hyperjax import checks
from hyperjax.commands import (
  adapt,
  adapter,
  export,
  import_,
  plan,
  predict,
  quiet,
  report,
  score,
  serve,
  shown,
)

COMMANDS = {
  "train": ("Train", "train a model in a run folder"),
  "eval": ("Evaluate", "score a trained run on tasks"),
  "cache": ("Cache", "store the tokens that a run reads, ahead of it"),
  "tasks": ("", "list the tasks and mixtures that are registered"),
  "inspect": ("Train", "print a run's training data as its models see it"),
  "plan": ("Train", "say what a run needs of devices, and whether it fits"),
}
# Commands without gin files: summary, and what adds their options.
PLAIN = {
  "import": ("a T5 of t5x or Hugging Face as a folder of safetensors", import_),
  "adapt": ("write adapters from a few examples", adapt),
  "predict": ("answer inputs with adapters", predict),
  "serve": ("answer requests with adapters, at an address", serve),
  "adapter": ("show adapter folders, and average them", adapter),
  "export": ("an adapter for other programs, checked in them", export),
  "score": (
    "figures of predictions, a benchmark's official or one's own",
    score,
  ),
  "report": ("a page of what runs and evaluations came to", report),
}
ALL = (*COMMANDS, *PLAIN)
# For tasks that `inspect` shows without a run: those of gin/runs/mtf_sni.gin.
LENGTHS = {"demonstrations": 1024, "inputs": 1024, "targets": 128}
# What it takes of the episodes of a TASK; a run's are as gin says.
OF_TASK = ("--split", "--lengths", "--num_demonstrations")


def parser() -> argparse.ArgumentParser:
  """Of all commands; --gin.NAME=VALUE is left over, for gin."""
  whole = argparse.ArgumentParser(
    "hyperjax",
    description="Hypermodels that write adapters for a frozen T5.",
    epilog="`hyperjax COMMAND --help` lists a command's options.",
  )
  whole.add_argument(
    "--version", action=_Version, help="of HyperJAX and JAX, and its devices"
  )
  whole.add_argument(
    "--print_completion",
    action=_Completion,
    choices=("bash", "zsh", "tcsh"),
    help="a script by which a shell completes commands and options",
  )
  commands = whole.add_subparsers(dest="command", metavar="COMMAND")
  for name, (_, summary) in COMMANDS.items():
    command = commands.add_parser(
      name,
      help=summary,
      description=summary.capitalize() + ".",
      epilog=(
        "A value is gin syntax, or a plain string: "
        "--gin.MODEL_DIR=/tmp/run --gin.TRAIN_STEPS=100"
      ),
      allow_abbrev=False,
    )
    _add_gin(command)
    if name == "tasks":
      _add_tasks(command)
    elif name == "inspect":
      _add_inspect(command)
    elif name == "plan":
      plan.add_options(command)
    elif name != "cache":  # several divide its work by locks in CACHE_DIR
      _add_processes(command)
    if name == "train":
      _add_restarts(command)
      checks.add_option(
        command,
        "--profile",
        _Steps(0),
        "write a trace of these steps, of those done before, into MODEL_DIR",
        metavar="START:STOP",
      )
    command.add_argument(
      "-v", "--verbose", action="store_true", help="more log, tracebacks"
    )
  for name, (summary, module) in PLAIN.items():
    module.add_arguments(
      commands.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        allow_abbrev=False,
      )
    )
  shown.add_examples(whole)
  return whole


class _Version(argparse.Action):
  """Says which versions and devices these are, and ends."""

  def __init__(self, **settings: Any):
    super().__init__(nargs=0, **settings)

  def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
    print(f"hyperjax {hyperjax.__version__}", flush=True)
    quiet.libraries()
    import jax  # takes a second or two

    python = ".".join(map(str, sys.version_info[:3]))
    print(f"jax {jax.__version__}, Python {python}", flush=True)
    try:
      kinds = [device.device_kind for device in jax.devices()]
    except RuntimeError as error:  # a TPU that another process has
      print(f"no devices: {str(error).partition(chr(10))[0]}")
    else:
      listed = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
      print(f"devices: {', '.join(listed)}")
    parser.exit()


class _Completion(argparse.Action):
  """Prints what a shell reads, and ends."""

  def __call__(
    self, parser: argparse.ArgumentParser, _: Any, shell: Any, *rest: Any
  ) -> None:
    del rest
    shtab: Any = importlib.import_module("shtab")  # not for other commands
    for own in shown.subcommands(parser).values():
      for action in own._actions:  # noqa: SLF001 - listed nowhere else
        if action.metavar in ("FILE", "FOLDER", "PATH", "RUN"):
          vars(action)["complete"] = shtab.FILE
    print(shtab.complete(parser, shell), flush=True)
    parser.exit()


class _Steps(checks.Span):
  """Steps from one on, before another."""

  @property
  def words(self) -> str:
    return "START:STOP with START < STOP"

  def allows(self, value: Any) -> bool:
    return super().allows(value) and value[0] < value[1]

  def parse(self, text: str) -> Any:
    return super().parse(text.replace(":", ",")) if ":" in text else text


def as_gin(known: argparse.Namespace) -> list[str]:
  """Options that set a parameter, as --gin.NAME=VALUE."""
  profile = getattr(known, "profile", None)
  return [f"--gin.loop.Periods.profile={profile}"] if profile else []


def _add_gin(command: argparse.ArgumentParser) -> None:
  command.add_argument(
    "--gin_file",
    action="append",
    default=[],
    metavar="FILE",
    help="a gin file, in the package or a path; repeatable, later wins",
  )
  command.add_argument(
    "--gin_search_paths",
    default="",
    metavar="FOLDERS",
    help="comma-separated folders searched for gin files first",
  )
  command.add_argument(
    "--gin_bindings",
    action="append",
    default=[],
    metavar="BINDING",
    help="one or more lines of gin; repeatable",
  )
  command.add_argument(
    "--gin.NAME",
    dest="unused",
    metavar="VALUE",
    help="sets the macro or parameter NAME",
  )


def _add_tasks(command: argparse.ArgumentParser) -> None:
  command.add_argument(
    "--filter", default="", metavar="TEXT", help="only names that hold it"
  )
  command.add_argument(
    "--split", metavar="SPLIT", help="only what has this split"
  )
  command.add_argument(
    "--counts",
    action="store_true",
    help="add rows and tokens of what is stored",
  )


def _add_inspect(command: argparse.ArgumentParser) -> None:
  command.add_argument(
    "task",
    nargs="?",
    metavar="TASK",
    help="show episodes of this task or mixture, instead of a run's data",
  )
  checks.add_option(
    command, "--num", checks.Count, "how many contexts (3)", default=3
  )
  checks.add_option(
    command,
    "--start",
    checks.Position,
    "the first one (0)",
    default=0,
    metavar="I",
  )
  command.add_argument("--split", metavar="SPLIT", help="of TASK (train)")
  checks.add_option(
    command,
    "--lengths",
    checks.Entries(LENGTHS, checks.rule_of(checks.Length)),
    "of TASK (demonstrations=1024,inputs=1024,targets=128)",
    metavar="NAME=N,...",
  )
  checks.add_option(
    command,
    "--num_demonstrations",
    checks.Span(1, checks.MAX_LENGTH),
    "how many are drawn for an episode of TASK (1,16)",
    metavar="LOW,HIGH",
  )


def _add_restarts(command: argparse.ArgumentParser) -> None:
  checks.add_option(
    command,
    "--restarts",
    checks.Whole(0, 1000),
    "how often a run that crashes is started again, but not one that failed the "
    "same way in the same step (0)",
    default=0,
  )


def _add_processes(command: argparse.ArgumentParser) -> None:
  group = command.add_argument_group(
    "several processes", "one for each host, all started alike"
  )
  group.add_argument(
    "--distributed",
    action="store_true",
    help="find the others through the cluster: TPU pods, Slurm, MPI, GKE",
  )
  checks.add_option(
    group,
    "--start_timeout",
    checks.Number(least=1, most=86400),
    "seconds in which all must have come (300)",
    default=300.0,
    metavar="SECONDS",
  )
  group.add_argument(
    "--coordinator_address",
    metavar="HOST:PORT",
    help="of process 0, where no cluster says so; with the next two",
  )
  checks.add_option(
    group, "--process_count", checks.NumProcesses, "how many there are"
  )
  checks.add_option(
    group,
    "--process_index",
    checks.Whole(0),
    "which this one is, below --process_count",
    metavar="I",
  )
