"""Claims about the data sets of others themselves: their files, lists and scorers.

The same code is tested on made-up files wherever the rest of `tests` is.
"""

import pytest

from tests import conftest

if not conftest.DATA.is_dir():
  pytest.skip(
    f"the data sets of others are not in {conftest.DATA}: "
    "set HYPERJAX_TEST_DATA",
    allow_module_level=True,
  )
