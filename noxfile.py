"""The quick tests in every Python, with the lowest and the highest versions.

    nox --session tests                        all of them
    nox --session "tests-3.11(lowest)"         one of them
    nox --session extremes                     the oldest and the newest
    nox --session tests -- -m slow             other tests in all of them

The versions are those that setup.py's ranges allow: `lowest` takes the lower
bound of each, and the newest of what these need in turn; `highest` the newest of
all. uv finds them. It asks the public index unless UV_DEFAULT_INDEX names
another. Pythons are found on PATH and among pyenv's; PYTHON_NEWEST may name one
that lies elsewhere. None is downloaded.
"""

import json
import os
import pathlib
import subprocess
from importlib import metadata

import nox
from packaging import requirements, utils, version

PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"lowest": "lowest-direct", "highest": "highest"}

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.sessions = ["tests"]

if named := os.environ.get("PYTHON_NEWEST"):
  os.environ["PATH"] = f"{pathlib.Path(named).parent}:{os.environ['PATH']}"
try:
  # pyenv's python3.13 starts only where 3.13 is among the chosen versions.
  command = ["pyenv", "versions", "--bare"]
  versions = subprocess.check_output(command, text=True).split()
  os.environ["PYENV_VERSION"] = ":".join(reversed(versions))
except (OSError, subprocess.CalledProcessError):
  pass  # no pyenv here


def _is_here(python: str) -> bool:
  try:
    subprocess.run([f"python{python}", "-c", ""], check=True)
  except (OSError, subprocess.CalledProcessError):
    return False
  return True


def _check_lower_bounds(session: nox.Session) -> None:
  """What setup.py names as a lower bound is what was installed."""
  listed = ["uv", "pip", "list", "--format", "json"]
  output = session.run(*listed, external=True, silent=True, stderr=None)
  if not output:
    return  # --install-only
  found = {
    package["name"]: package["version"] for package in json.loads(output)
  }
  # Written by the editable installation.
  distribution = metadata.PathDistribution(pathlib.Path("hyperjax.egg-info"))
  for text in distribution.requires or ():
    wanted = requirements.Requirement(text)
    if wanted.marker and not wanted.marker.evaluate({"extra": "test"}):
      continue
    installed = found[utils.canonicalize_name(wanted.name)]
    bounds = [x for x in wanted.specifier if x.operator in (">=", "==")]
    if version.Version(installed) != version.Version(bounds[0].version):
      session.error(f"{wanted} is tested from {installed} on, not lower")


@nox.session(python=PYTHONS)
@nox.parametrize(
  "resolution", [nox.param(how, id=name) for name, how in RESOLUTIONS.items()]
)
def tests(session: nox.Session, resolution: str) -> None:
  """What `make test` runs; other options of pytest after `--`."""
  session.install("--resolution", resolution, "--editable", ".[test]")
  tree = ["uv", "pip", "tree", "--package", "hyperjax", "--depth", "1"]
  session.run(*tree, external=True)
  if resolution == RESOLUTIONS["lowest"] and session.python == PYTHONS[0]:
    _check_lower_bounds(session)
  chosen = session.posargs or ["-m", "not slow", "--durations=20"]
  pytest = ["python", "-m", "pytest", "-n", "2", "--dist", "worksteal"]
  session.run(*pytest, *chosen)


@nox.session(python=False)
def extremes(session: nox.Session) -> None:
  """The lowest versions in the oldest Python, the highest in the newest."""
  found = [python for python in PYTHONS if _is_here(python)]
  lacking = [python for python in PYTHONS if python not in found]
  if not found:
    session.error(f"none of Python {', '.join(PYTHONS)} is on this machine")
  if lacking:
    session.warn(
      f"this machine has no Python {', '.join(lacking)}: the lowest versions "
      f"are tested in {found[0]}, the highest in {found[-1]}"
    )
  session.notify(f"tests-{found[0]}(lowest)")
  session.notify(f"tests-{found[-1]}(highest)")
