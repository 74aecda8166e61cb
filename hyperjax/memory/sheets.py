"""Data sheets of accelerators: what their makers say of one chip.

Peaks are of dense matrices. Memory is what software is given of it, in GiB as
`nvidia-smi` and the TPU compiler count; bandwidths are in bytes a second. The network
is what a chip sends to others within a slice, or within a machine of GPUs joined by
NVLink, over all its links one way; between slices and machines it is far less.
"""

import dataclasses
import difflib
import re
from typing import Any

GIB = 2**30
TERA = 10**12
GIGA = 10**9

_CLOUD = "https://cloud.google.com/tpu/docs/"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"


@dataclasses.dataclass(frozen=True)
class Sheet:
  """One chip.

  Attributes:
    name: as options name it.
    is_tpu: or else a GPU.
    memory: bytes.
    bfloat16: matrix-product operations a second.
    float32: the same of float32 arrays in JAX's default precision, which is
      bfloat16 on TPUs and TF32 on GPUs.
    bandwidth: of its memory.
    network: to other chips.
    source: the page of its maker.
    kind: what JAX calls such a device, a regular expression.
    dimensions: of a TPU's torus; 0 of a GPU.
  """

  name: str
  is_tpu: bool
  memory: int
  bfloat16: float
  float32: float
  bandwidth: float
  network: float
  source: str
  kind: str
  dimensions: int = 0

  def peak(self, dtype: str) -> float:
    """Matrix-product operations a second in a dtype of arithmetic."""
    return self.float32 if dtype == "float32" else self.bfloat16


def _tpu(
  name: str,
  memory: float,
  peak: float,
  bandwidth: float,
  link: float,
  dimensions: int,
  kind: str,
) -> Sheet:
  """A TPU; memory in GiB, peak in TFLOP/s, bandwidth and one link in GB/s."""
  return Sheet(
    name,
    True,
    int(memory * GIB),
    peak * TERA,
    peak * TERA,
    bandwidth * GIGA,
    2 * dimensions * link * GIGA,  # a torus: two neighbours in each dimension
    _CLOUD + name,
    kind,
    dimensions,
  )


def _gpu(
  name: str,
  memory: float,
  peak: float,
  bandwidth: float,
  network: float,
  page: str,
  kind: str,
) -> Sheet:
  """A GPU; units as above, the network in GB/s one way. TF32 is half of bfloat16."""
  return Sheet(
    name,
    False,
    int(memory * GIB),
    peak * TERA,
    peak / 2 * TERA,
    bandwidth * GIGA,
    network * GIGA,
    _NVIDIA + page,
    f"NVIDIA {kind}",
  )


SHEETS = {
  sheet.name: sheet
  for sheet in (
    _tpu("v4", 30.75, 275, 1228, 50, 3, r"TPU v4"),
    _tpu("v5e", 15.75, 197, 819, 50, 2, r"TPU v5 ?(lite|e)"),
    _tpu("v5p", 95.7, 459, 2765, 100, 3, r"TPU v5p?"),
    _tpu("v6e", 31.2, 918, 1638, 112, 2, r"TPU v6 ?(lite|e)"),
    # Cards of a name for PCIe or for one's desk are slower than what is listed.
    _gpu("a100-40gb", 40, 312, 1555, 300, "a100/", r"A100-(SXM4|PCIE)-40GB"),
    _gpu("a100-80gb", 80, 312, 2039, 300, "a100/", r"A100.*80GB.*"),
    _gpu("h100", 79.6, 989, 3350, 450, "h100/", r"H100 80GB HBM3"),
    _gpu("h200", 140.4, 989, 4800, 450, "h200/", r"H200"),
    _gpu("b200", 179, 2250, 7700, 900, "dgx-b200/", r"B200"),
    _gpu("a10", 22.5, 125, 600, 32, "products/a10-gpu/", r"A10"),
    _gpu("l4", 22.5, 121, 300, 32, "l4/", r"L4"),
    _gpu("l40s", 45, 362, 864, 32, "l40s/", r"L40S"),
  )
}
TPUS = tuple(name for name, sheet in SHEETS.items() if sheet.is_tpu)
GPUS = tuple(name for name, sheet in SHEETS.items() if not sheet.is_tpu)


def of_device(device: Any) -> Sheet | None:
  """The sheet of a device of JAX; None of a CPU, and of what is not listed."""
  found = [
    sheet
    for sheet in SHEETS.values()
    if re.fullmatch(sheet.kind, device.device_kind)
  ]
  return found[0] if found else None


def gpu(name: str) -> Sheet:
  """A GPU's sheet.

  Raises:
    ValueError: none has this name; says which there are.
  """
  if name in GPUS:
    return SHEETS[name]
  near = difflib.get_close_matches(name, GPUS, 1)
  hint = f"; did you mean {near[0]}?" if near else ""
  raise ValueError(
    f"--gpu must be one of {', '.join(GPUS)}; got {name!r}{hint}"
  )
