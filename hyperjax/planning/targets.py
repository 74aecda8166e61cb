"""What a run is planned for: a TPU topology, GPUs, or this host's devices.

A topology is known to the TPU compiler (libtpu), which needs no TPU. For GPUs there
is no such compiler without one: a program is compiled for devices of the host, and
held against the card's memory.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from hyperjax.memory import capacity, sheets

# JAX takes this share of a GPU's memory unless a variable of these says another.
_GPU_SHARE = 0.75
_SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
# What the TPU compiler would else look for on the network, or say about not finding
# it. It opens no TPU, so it keeps nobody from one.
SET = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  # A program out of a cache leaves no text to read.
  "JAX_ENABLE_COMPILATION_CACHE": "false",
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
}
_TOPOLOGY = re.compile(r"(v\d\w*):(\d+(?:x\d+)*)")
_HOST_DEVICES = "--xla_force_host_platform_device_count"


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices to compile for, and what is known of them.

  Attributes:
    name: in words.
    devices: in JAX's order.
    sheet: of a chip; None of this host.
    memory: bytes that a program may take of each; None where nobody says.
    is_own_compiler: whether programs are compiled as they would be there.
    topology: of TPUs, as it was asked for.
  """

  name: str
  devices: Sequence[Any]
  sheet: sheets.Sheet | None
  memory: int | None
  is_own_compiler: bool
  topology: str | None = None


def prepare(topology: str | None, gpu: str | None, count: int | None) -> None:
  """Sets, before JAX starts, what makes it ready for a target.

  Raises:
    ValueError: the options do not name one target.
  """
  if topology and (gpu or count):
    raise ValueError("--topology stands alone, without --devices and --gpu")
  if not (topology or gpu or count):
    raise ValueError(
      "one of --topology=v5e:4x4, --gpu=h100 or --devices=8 is needed"
    )
  if topology:
    parsed(topology)
    for name, value in SET.items():
      os.environ.setdefault(name, value)
  if gpu:
    sheets.gpu(gpu)
  os.environ["JAX_PLATFORMS"] = "cpu"
  if count or gpu:
    flags = os.environ.get("XLA_FLAGS", "")
    kept = [x for x in flags.split() if not x.startswith(_HOST_DEVICES)]
    kept.append(f"{_HOST_DEVICES}={count or 1}")
    os.environ["XLA_FLAGS"] = " ".join(kept)


def of(topology: str | None, gpu: str | None, count: int | None) -> Target:
  """The target that options name; `prepare` has been called with them.

  Raises:
    ValueError: there is none such, or its compiler is not installed.
  """
  if topology:
    return _of_topology(topology)
  import jax

  count = count or 1
  devices = jax.devices("cpu")[:count]
  if len(devices) < count:
    raise ValueError(
      f"--devices={count}: JAX has started with {len(devices)} host devices"
    )
  plural = "s" if count > 1 else ""
  if gpu is None:
    free = capacity.host()
    share = None if free is None else free // count
    return Target(
      f"{count} device{plural} of this host", devices, None, share, True
    )
  sheet = sheets.gpu(gpu)
  memory = int(_gpu_share() * sheet.memory)
  return Target(f"{count} {gpu} GPU{plural}", devices, sheet, memory, False)


def parsed(topology: str) -> tuple[sheets.Sheet, tuple[int, ...]]:
  """A TPU's sheet and the extents of its slice.

  Raises:
    ValueError: says which there are.
  """
  found = _TOPOLOGY.fullmatch(topology)
  if found is None or found[1] not in sheets.TPUS:
    raise ValueError(
      f"--topology is a TPU ({', '.join(sheets.TPUS)}) and the extents of its "
      f"slice, such as v5e:8x8 or v5p:4x4x4; got {topology!r}"
    )
  sheet = sheets.SHEETS[found[1]]
  extents = tuple(int(extent) for extent in found[2].split("x"))
  if len(extents) != sheet.dimensions:
    example = "x".join(["4"] * sheet.dimensions)
    raise ValueError(
      f"--topology: a slice of {sheet.name} has {sheet.dimensions} extents, "
      f"such as {sheet.name}:{example}; got {topology!r}"
    )
  return sheet, extents


def _of_topology(topology: str) -> Target:
  sheet, _ = parsed(topology)
  devices = _compiler_devices(topology)
  return Target(
    f"{len(devices)} TPU {sheet.name} chips, {topology}",
    devices,
    sheet,
    sheet.memory,
    True,
    topology,
  )


def _compiler_devices(topology: str) -> Sequence[Any]:
  """A topology's devices, from the TPU compiler."""
  from jax.experimental import topologies

  # JAX runs with both cores of a v4 as one device; its compiler is to be told.
  chip = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
  try:
    return topologies.get_topology_desc(
      platform="tpu", topology_name=topology, **chip
    ).devices
  except Exception as error:  # of several classes, of which none is public
    raise ValueError(_refusal(topology, str(error))) from error


def _refusal(topology: str, said: str) -> str:
  line = said.partition("\n")[0]
  if importlib.util.find_spec("libtpu") is None:
    return (
      "--topology needs the TPU compiler, which is not installed: "
      "pip install 'hyperjax[plan]'"
    )
  return f"--topology={topology}: the TPU compiler refuses it ({line})"


def _gpu_share() -> float:
  for name in _SHARES:
    if os.environ.get(name):
      return float(os.environ[name])
  return _GPU_SHARE
