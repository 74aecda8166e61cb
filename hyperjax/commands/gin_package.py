"""The gin files of the package: which there are, and what became of others."""

import difflib
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FOLDER = pathlib.Path(__file__).parent.parent / "gin"

# Macros that decide nothing of a run's data: where results and weights lie, and
# what is trained.
NOT_DATA = {
  "MODEL_DIR": "unused",
  "INITIAL_CHECKPOINT_PATH": "unused",
  "CHECKPOINT_PATH": "unused",
  "TEACHER_CHECKPOINT": "unused",
  "WANDB_PROJECT": "unused",
  "MLFLOW_EXPERIMENT": "unused",
  "ADAPTERS": None,
}
# Macros that decide nothing of what a run takes, for whoever has not set them yet.
NOT_PLANNED = {
  "MODEL_DIR": "unused",
  "INITIAL_CHECKPOINT_PATH": None,
  "CHECKPOINT_PATH": None,
  "TEACHER_CHECKPOINT": "unused",
  "WANDB_PROJECT": "unused",
  "MLFLOW_EXPERIMENT": "unused",
  "DATA_DIR": "unused",
  "MIXTURE_OR_TASK_NAME": "unused",
  "VOCABULARY": "unused",
}
# In place of a run's record: what an evaluation without a run is of.
_PLANNED_PROBLEM = """
from __gin__ import dynamic_registration
from hyperjax import runs
from hyperjax.models import hypermodel
from hyperjax.models import problems
from hyperjax.models import t5_layers
runs.Evaluate.problem = @problems.HyperTuning()
problems.HyperTuning.backbone = @backbone/t5_layers.T5Config()
problems.HyperTuning.hypermodel = @hypermodel.HyperT5Config()
problems.HyperTuning.adapters = %ADAPTERS
hypermodel.HyperT5Config.t5 = @hypermodel/t5_layers.T5Config()
"""
# In place of what a run trains, so that no T5 is looked for.
ANY_PROBLEM = """
from __gin__ import dynamic_registration
from hyperjax import runs
from hyperjax.commands import inspect
runs.{}.problem = @inspect.AnyProblem()
"""

# What gin files of earlier versions name, by what the error about it holds.
_MOVED = {
  "'hyperjax.data.seqio_store'": "hyperjax.data.store.seqio_store",
  "'hyperjax.data.seqio_tasks'": "hyperjax.data.store.seqio_tasks",
  " store.StoredTasks": "hyperjax.data.store.mixtures.StoredTasks",
  "parameter named 'max_to_keep'": "checkpoints.Kept.last",
  "stages/hyperpretrain.gin": "stages/hypertuning.gin with stages/caclm.gin",
  "stages/multitask.gin": "stages/hypertuning.gin",
  "runs/paper/": "a row of docs/paper.md, which has its command",
  "named 'model_parallel'": "MeshSpec.axes (MESH={'tensor': ...})",
}
_MOVED_MACROS = {"MODEL_PARALLEL": "MESH={'tensor': ...}"}


def moved(error: Exception) -> str:
  """Where a file or a module is now that an error misses, in words, or ""."""
  found = [now for old, now in _MOVED.items() if old in str(error)]
  return f": it is now {found[0]}" if found else ""


def not_found(file: str, error: OSError, folders: Sequence[str] = ()) -> str:
  """That a gin file, or one that it includes, cannot be read; and what may be.

  Args:
    file: as it was given.
    error: that came of it.
    folders: where files are looked for besides.
  """
  own = own_files(file, folders)
  if own and not moved(error):
    return f"--gin_file={file}: there is none; did you mean {' or '.join(own)}?"
  names = sorted(
    str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.gin")
  )
  near = difflib.get_close_matches(file, names, 3, 0.4)
  hint = f"; nearest in the package: {', '.join(near)}" if near else ""
  return f"--gin_file={file} cannot be read ({error}){moved(error) or hint}"


def own_files(file: str, folders: Sequence[str]) -> list[str]:
  """The user's own gin files that a name may be meant for, by their paths."""
  wanted = pathlib.Path(file)
  known = {
    str(path): path.name
    for place in [wanted.parent, *map(pathlib.Path, folders)]
    if place != FOLDER
    for path in sorted(place.glob("*.gin"))
  }
  if str(wanted) in known:  # it lacks what it includes
    return []
  near = difflib.get_close_matches(wanted.name, known.values(), 3, 0.6)
  return [path for path, name in known.items() if name in near]


def undeclared(name: str, declared: Iterable[str]) -> str:
  """What a macro that no file declares may be meant for, in words, or ""."""
  if name in _MOVED_MACROS:
    return f": it is now {_MOVED_MACROS[name]}"
  near = difflib.get_close_matches(name, declared, 1, 0.5)
  return f"; did you mean {near[0]}?" if near else ""


def check_macros(names: Iterable[str]) -> None:
  """Refuses macros of earlier versions, which nothing would read.

  Raises:
    ValueError: with what is in their place.
  """
  for name in names:
    if name in _MOVED_MACROS:
      raise ValueError(f"{name} is now {_MOVED_MACROS[name]}")


def declaring(name: str, gin_files: Sequence[str]) -> str:
  """Which files that are not in use bind a macro, in words."""
  found = [
    str(path.relative_to(FOLDER))
    for path in sorted(FOLDER.glob("*/*.gin"))
    if path.parent.name != "t5x"  # files for another program
    # A stage that does without one binds None.
    and re.search(rf"^{name} = (?!None$)", path.read_text(), re.M)
  ]
  others = [file for file in found if file not in gin_files]
  return f": add --gin_file={' or '.join(others[:6])} before" if others else ""


def said(error: Exception) -> str:
  """What an error says, in a line: gin adds others. And what has moved."""
  return str(error).partition("\n")[0] + moved(error)


def refusal(error: Exception, bound: Mapping[Any, Mapping[str, Any]]) -> str:
  """Why what the gin files describe cannot be made, in a line.

  Args:
    error: that came of making it.
    bound: gin's bindings, by scope and selector: a parameter that has its value
      from a macro is named by that too.
  """
  if isinstance(error, RecursionError):
    return "the gin files do not describe this: something is a part of itself"
  message = str(error).partition("\n  In call to configurable")[0]
  if isinstance(error, TypeError):
    return f"the gin files do not describe this: {message}"
  kind, _, rest = message.partition(".")
  parameter = re.split(r"\W", rest, maxsplit=1)[0]
  for (_, selector), parameters in bound.items():
    value = str(parameters.get(parameter))
    if selector.rpartition(".")[2] == kind and value.startswith("%"):
      return f"{message} (--gin.{value[1:]})"
  return message


def planned(kind: str, macros: Mapping[str, Any]) -> str:
  """Lines of gin with which a run can be described before anything of it is there.

  Args:
    kind: what it is, a class of `runs`.
    macros: as they are bound.
  """
  if kind != "Evaluate" or macros.get("CHECKPOINT_PATH") is not None:
    return ""
  lines = "runs.Evaluate.checkpoint = 'unused'\n"
  if macros.get("PROBLEM") is None and macros.get("ADAPTERS") is not None:
    lines += _PLANNED_PROBLEM
  return lines
