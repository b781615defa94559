"""The notebooks of docs/notebooks: stored without outputs, and every cell runs in a kernel of its own."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_what_it_gave(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["cells"][0]["cell_type"] == "markdown" and "simulated" in path.read_text("utf-8")
    for cell in book["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
        assert all(len(line.rstrip("\n")) <= 130 for line in cell["source"])


def test_every_notebook_of_the_documentation_is_there():
    page = (ROOT / "docs" / "own_experiment.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 5 and all(path.name in page for path in NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_fresh_folder(path, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert not list(tmp_path.iterdir()), "it writes into the folder that it names, and nowhere else"
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert shown and not any(output.output_type == "error" for output in shown)
