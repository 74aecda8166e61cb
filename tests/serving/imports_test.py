"""What the package of serving offers, and what importing it costs."""

import subprocess
import sys

import pytest

from hyperjax import serving
from tests import conftest


def test_jax_is_imported_with_the_first_use_and_not_with_the_package():
  program = """
import sys
from hyperjax import serving
assert not {"jax", "numpy"} & sys.modules.keys()
serving.load
assert "jax" in sys.modules
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)


def test_what_is_not_offered_is_named():
  assert serving.Model.__name__ == "Model"
  with pytest.raises(AttributeError, match="serving' has no attribute 'train'"):
    serving.train  # noqa: B018 - as a user would
