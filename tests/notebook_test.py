"""The notebook of docs/ is run, on a tiny hypermodel."""

import re

import pytest

from tests import conftest


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(served, monkeypatch):
  nbclient = pytest.importorskip("nbclient")
  nbformat = pytest.importorskip("nbformat")
  monkeypatch.setenv("HYPERJAX_RUN", str(served / "lora"))
  monkeypatch.setenv("PYTHONPATH", str(conftest.ROOT))
  notebook = nbformat.read(conftest.ROOT / "docs" / "adapt.ipynb", 4)
  client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
  client.execute()
  shown = {
    cell.id: "".join(
      out.get("text") or out.get("data", {}).get("text/plain", "")
      for out in cell.outputs
    )
    for cell in notebook.cells
    if cell.cell_type == "code"
  }
  model, adapter, *_, refused = shown.values()
  assert model.startswith("Model(") and "step 6" in model
  assert re.match(
    r"Adapter\(LoRA of rank 2, 3 examples, for T5 \w{16}\)", adapter
  )
  assert "give ['louis vienna golden ten']" in refused
