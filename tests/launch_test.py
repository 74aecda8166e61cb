"""Launch files: what they start is what `hyperjax` takes."""

import re
import shlex
import subprocess

import pytest
import yaml

from hyperjax import main
from hyperjax.commands import arguments, gin_package
from tests import conftest

LAUNCH = conftest.ROOT / "launch"
SCRIPTS = ("slurm.sbatch", "tpu_vm.sh")
FILES = ("gke_jobset.yaml", *SCRIPTS)
ORDER = ["plan", "train", "eval", "report"]


def _jobset():
  return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def _jobs():
  return {job["name"]: job for job in _jobset()["spec"]["replicatedJobs"]}


def _pod(job):
  return job["template"]["spec"]["template"]["spec"]


def _text(name):
  """A file's shell text, one command a line."""
  text = (LAUNCH / name).read_text()
  if name.endswith(".yaml"):
    commands = [
      _pod(job)["containers"][0]["command"] for job in _jobs().values()
    ]
    text = "\n".join(
      given[2] if given[0] == "bash" else shlex.join(given)
      for given in commands
    )
  arrays = dict(re.findall(r"^(\w+)=\(\n(.*?)^\)", text, re.M | re.S))
  text = text.replace("\\\n", " ").replace("$devices", "16")
  for array, items in arrays.items():
    line = items.replace("\n", " ")
    for use in (f'"${{{array}[@]}}"', f"${{{array}[*]@Q}}"):
      text = text.replace(use, line)
  return text


def _commands(name):
  """Words of each `hyperjax` command, variables as they stand."""
  found = re.findall(
    r"^.*?\bhyperjax ((?:plan|cache|train|eval|report)\b.*)$", _text(name), re.M
  )
  return [
    shlex.split(line.split("||")[0].replace('"', ""))
    for line in found
    if not line.startswith("#")
  ]


@pytest.mark.parametrize("name", FILES)
def test_a_launch_file_goes_from_a_plan_to_a_report(name):
  commands = [words[0] for words in _commands(name)]
  assert [command for command in commands if command != "cache"] == ORDER


@pytest.mark.parametrize("name", FILES)
def test_hyperjax_takes_every_option_of_a_launch_file(name):
  known_commands = {*arguments.COMMANDS, *arguments.PLAIN}
  for words in _commands(name):
    if words[0] not in known_commands:
      continue
    known, rest = main.parse(words)
    assert all(option.startswith("--gin.") for option in rest)
    for file in getattr(known, "gin_file", ()):
      assert (gin_package.FOLDER / file).is_file()
    assert getattr(known, "distributed", True) or known.command == "cache"


@pytest.mark.parametrize("name", FILES)
def test_macros_of_a_launch_file_are_those_of_its_run(name):
  for words in _commands(name):
    files = [w.partition("=")[2] for w in words if w.startswith("--gin_file=")]
    if not files:
      continue
    texts = "".join(_with_included(file) for file in files)
    for macro in re.findall(r"--gin\.([A-Z_]+)=", " ".join(words)):
      assert re.search(rf"^{macro} = ", texts, re.M), (words[0], macro)


def _with_included(file):
  text = (gin_package.FOLDER / file).read_text()
  return text + "".join(
    map(_with_included, re.findall(r'^include "(.*)"', text, re.M))
  )


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_a_launch_file(name):
  subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)


def test_each_job_of_the_jobset_waits_for_the_one_before():
  waits = {
    name: [(on["name"], on["status"]) for on in job.get("dependsOn", ())]
    for name, job in _jobs().items()
  }
  assert waits == {
    "plan": [],
    "train": [("plan", "Complete")],
    "report": [("train", "Complete")],
  }


def test_the_jobset_has_a_pod_for_each_host_of_its_slice():
  job = _jobs()["train"]["template"]["spec"]
  pod = _pod(_jobs()["train"])
  (container,) = pod["containers"]
  topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  rows, columns = map(int, topology.split("x"))
  assert job["completions"] == job["parallelism"] == rows * columns // chips
  assert job["completionMode"] == "Indexed"
  assert "--topology=v5e:8x8" in _text("gke_jobset.yaml")
