"""Other libraries say nothing of accelerators that are not there."""

import os

import pytest

from hyperjax.commands import quiet

NAME = "TPU_WORKER_HOSTNAMES"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  for name in (*quiet._NO_TPU, *quiet._TENSORFLOW):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(name, "")  # so that it is as it was after the test
    del os.environ[name]


@pytest.mark.parametrize(
  "found, is_silenced",
  [({}, True), ({"/dev/accel*": ["/dev/accel0"]}, False)],
)
def test_libtpu_is_silenced_where_there_is_no_tpu(
  monkeypatch, found, is_silenced
):
  monkeypatch.setattr(
    quiet.glob, "glob", lambda pattern: found.get(pattern, [])
  )
  quiet.libraries()
  assert (NAME in os.environ) == is_silenced
  assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def test_a_google_device_on_the_bus_may_be_a_tpu(monkeypatch, tmp_path):
  for vendor, is_silenced in (("0x8086", True), ("0x1ae0", False)):
    (tmp_path / "vendor").write_text(vendor + "\n")
    files = {"/sys/bus/pci/devices/*/vendor": [str(tmp_path / "vendor")]}
    monkeypatch.setattr(quiet.glob, "glob", lambda x, own=files: own.get(x, []))
    os.environ.pop(NAME, None)
    quiet.libraries()
    assert (NAME in os.environ) == is_silenced


def test_what_a_user_has_set_stays(monkeypatch):
  monkeypatch.setattr(quiet.glob, "glob", lambda pattern: [])
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
  quiet.libraries()
  assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
