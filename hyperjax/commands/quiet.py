"""What other libraries would say of machines without accelerators is not said."""

import glob
import os

_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # that it found no GPU
# libtpu, which hyperjax[plan] brings, asks the network of Google's cloud which TPU this
# is, and tells at length that it has no answer.
_NO_TPU = {
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
}
_GOOGLE = "0x1ae0"  # vendor of TPUs, by PCI


def libraries() -> None:
  """Silences them, before they are imported; what is set already stays."""
  settings = dict(_TENSORFLOW)
  if not _may_have_tpu():
    settings |= _NO_TPU
  for name, value in settings.items():
    os.environ.setdefault(name, value)


def _may_have_tpu() -> bool:
  if glob.glob("/dev/accel*") or glob.glob("/dev/vfio/*"):
    return True
  return any(map(_is_googles, glob.glob("/sys/bus/pci/devices/*/vendor")))


def _is_googles(vendor: str) -> bool:
  try:
    with open(vendor) as file:
      return file.read().strip() == _GOOGLE
  except OSError:
    return False
