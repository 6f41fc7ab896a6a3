"""The notebooks in examples/ run from top to bottom, and are kept without what they printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
interactive = pytest.importorskip("IPython.core.interactiveshell")
pylabtools = pytest.importorskip("IPython.core.pylabtools")
traitlets = pytest.importorskip("traitlets.config")
BOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


WITHOUT_PICTURE = ("steer_and_eval", "grounding")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """IPython in this process, where everything is imported already."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    config = traitlets.Config(HistoryManager={"enabled": False})
    started = interactive.InteractiveShell.instance(config=config)
    pylabtools.select_figure_formats(started, {"png"})
    yield started
    started.restore_sys_module_state()
    interactive.InteractiveShell.clear_instance()


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown: set[str] = set()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            ended = shell.run_cell(cell.source)
            assert ended.success, cell.source
            shown.update(shell.display_formatter.format(getattr(ended.result, "figure", ended.result))[0])
    assert "image/png" in shown or path.stem in WITHOUT_PICTURE
    if path.stem == "paper":
        assert "toprule" in capsys.readouterr().out, "the paper's table in LaTeX"


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_output(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_there_are_some() -> None:
    assert {path.stem for path in BOOKS} == {"measure", "steer_and_eval", "impact", "grounding", "paper"}
