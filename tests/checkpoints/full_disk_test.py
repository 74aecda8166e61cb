"""A save that fails leaves what was saved, and says in a sentence what to do."""

import contextlib
import errno
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints, metrics, paths, train_state
from hyperjax.checkpoints import failures
from hyperjax.checks import disk


def _state(step, size=4):
  return train_state.TrainState(
    jnp.int32(step),
    # No two values alike, so that nothing is packed.
    {"a": jax.random.normal(jax.random.key(step), (size,))},
    {},
    {},
    jax.random.key(0),
  )


def _save(saver, step, size=4):
  key = checkpoints.key_data(jax.random.key(0))
  saver.save(_state(step, size), checkpoints.Facts(step, {}, key))


@contextlib.contextmanager
def small_disk(tmp_path, size):
  """A file system of its own; skips where none may be mounted."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
  if sys.platform != "linux" or subprocess.run(mount, check=False).returncode:
    pytest.skip("no file system may be mounted here")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# What is not awaited of orbax's where it fails; nothing of ours is.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_on_a_full_disk_the_last_checkpoint_stays_and_one_sentence_says_so(
  tmp_path, caplog
):
  with small_disk(tmp_path, "2m") as mounted:
    saver = checkpoints.Checkpoints(mounted / "checkpoints")
    _save(saver, 1, 100_000)
    saver.wait()
    with pytest.raises(checkpoints.SaveFailed) as failed:
      _save(saver, 2, 2_000_000)
      saver.wait()
    assert re.fullmatch(
      rf"\[Errno {errno.ENOSPC}\] checkpoint 2 in {mounted}/checkpoints cannot be "
      r"written: no space is left on the disk\. Nothing is lost: the last good "
      r"checkpoint is of step 1; make room and start the run again, it goes on "
      r"from there",
      str(failed.value),
    )
    # What it had written is gone, so that the room is not lost too.
    names = [path.name for path in (mounted / "checkpoints").iterdir()]
    assert names == ["1"]
    saver.close()
    again = checkpoints.Checkpoints(mounted / "checkpoints")
    assert again.last_whole() == 1
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = {
      "a": jax.ShapeDtypeStruct((100_000,), np.float32, sharding=place)
    }
    found = again.restore_params(1, abstract)
    np.testing.assert_array_equal(found["a"], _state(1, 100_000).params["a"])
    _save(again, 2, 100_000)  # with room again it goes on
    again.wait()
    assert again.last_whole() == 2
    again.close()
  assert "Traceback" not in caplog.text


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_save_that_failed_is_met_before_the_next_one(tmp_path):
  with small_disk(tmp_path, "1m") as mounted:
    saver = checkpoints.Checkpoints(mounted / "checkpoints")
    _save(saver, 1, 2_000_000)
    with pytest.raises(
      checkpoints.SaveFailed, match="There is no checkpoint before"
    ):
      deadline = time.monotonic() + 60
      while time.monotonic() < deadline:
        saver.check()
    saver.close()


def test_a_full_disk_is_said_of_metrics_too_and_no_half_line_is_read(tmp_path):
  with small_disk(tmp_path, "64k") as mounted:
    log = metrics.RunLog(mounted, None)
    log.write(1, {"loss": 2.0})
    with pytest.raises(
      OSError, match=r"(metrics.jsonl|events) cannot be written: no space"
    ):
      for step in range(2, 5000):
        log.write(step, {"loss": 1 / 3, "x" * 500: 1.0})
    log.close()
    lines = metrics.read(mounted / metrics.METRICS)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
  "error, number",
  [
    (OSError(errno.EROFS, "x"), errno.EROFS),
    (OSError(errno.ENOENT, "x"), None),
    (ValueError("RESOURCE_EXHAUSTED: [No space left on device]"), errno.ENOSPC),
    (ValueError("Disk quota exceeded"), errno.EDQUOT),
    (ValueError("something else"), None),
  ],
  ids=str,
)
def test_the_systems_reason_is_found_however_deep_it_lies(error, number):
  assert disk.reason(error) == number
  outer = RuntimeError("the save failed")
  outer.__cause__ = ValueError("of that")
  outer.__cause__.__context__ = error
  assert disk.reason(outer) == number


def test_what_to_do_depends_on_the_reason():
  said = failures.sentence("x", errno.EROFS, None)
  assert said.startswith("x cannot be written: the file system is read-only. ")
  assert "no checkpoint before it; make it writable and start" in said
  assert "make room" in failures.sentence("x", errno.EDQUOT, 3)


def test_a_fence_that_refuses_keeps_a_save_from_beginning(tmp_path):
  class Refusing(paths.NoFence):
    def check(self):
      raise ValueError("the folder is another's")

  saver = checkpoints.Checkpoints(tmp_path / "checkpoints", fence=Refusing())
  with pytest.raises(ValueError, match="another's"):
    _save(saver, 1)
  saver.close()
  assert not (tmp_path / "checkpoints").exists()
