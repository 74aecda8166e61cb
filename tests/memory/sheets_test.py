import pytest

from hyperjax.memory import sheets


class _Device:
  def __init__(self, kind):
    self.device_kind = kind


@pytest.mark.parametrize(
  ("kind", "name"),
  [
    ("TPU v4", "v4"),
    ("TPU v5 lite", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v6 lite", "v6e"),
    ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
    ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
    ("NVIDIA H100 80GB HBM3", "h100"),
    ("NVIDIA H200", "h200"),
    ("NVIDIA L4", "l4"),
    ("NVIDIA L40S", "l40s"),
  ],
)
def test_a_device_has_the_sheet_of_its_own_name(kind, name):
  sheet = sheets.of_device(_Device(kind))
  assert sheet is not None
  assert sheet.name == name


@pytest.mark.parametrize("kind", ["cpu", "TPU v9", "NVIDIA H100 PCIe", "L4x"])
def test_what_is_not_listed_has_none(kind):
  """A slower card of a like name would seem to do less than it can."""
  assert sheets.of_device(_Device(kind)) is None
