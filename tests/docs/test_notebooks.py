"""The notebooks in examples/ run from top to bottom, and are kept without what they printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
BOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


WITHOUT_PICTURE = ("steer_and_eval", "grounding")


def test_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one kernel, emptied before each: to start one and import everything takes longer than most of them."""
    nbclient = pytest.importorskip("nbclient")
    for name in ("XDG_CACHE_HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    whole = nbformat.v4.new_notebook()
    parts: dict[str, list[Any]] = {}
    for path in BOOKS:
        (tmp_path / path.stem).mkdir()
        fresh = nbformat.v4.new_code_cell(f"%reset -f\n%cd {tmp_path / path.stem}")
        parts[path.stem] = nbformat.read(path, as_version=4).cells
        whole.cells += [fresh, *parts[path.stem]]
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(whole, timeout=600, kernel_name="python3", resources=resources).execute()
    for name, cells in parts.items():
        shown = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        assert not [output for output in shown if output.output_type == "error"], name
        assert any("image/png" in output.get("data", {}) for output in shown) or name in WITHOUT_PICTURE
    printed = "".join(output.get("text", "") for cell in parts["paper"] for output in cell.get("outputs", ()))
    assert "toprule" in printed, "the paper's table in LaTeX"


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_output(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_there_are_some() -> None:
    assert {path.stem for path in BOOKS} == {"measure", "steer_and_eval", "impact", "grounding", "paper"}
