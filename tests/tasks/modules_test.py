"""Tasks that a module registers as it is imported."""

import sys

import pytest

from hyperjax.tasks import modules


@pytest.mark.parametrize("names", ["own_module", ("own_module",)])
def test_registering_imports_the_modules(tmp_path, monkeypatch, names):
  (tmp_path / "own_module.py").write_text("VALUE = 3\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.delitem(sys.modules, "own_module", raising=False)
  modules.ImportedModules(names).register()
  assert sys.modules["own_module"].VALUE == 3


def test_a_module_that_cannot_be_imported_is_named():
  with pytest.raises(ValueError, match="TASK_MODULES: no_such cannot be"):
    modules.ImportedModules("no_such").register()
