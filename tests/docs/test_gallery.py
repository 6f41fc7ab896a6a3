"""The gallery's figures are drawn by the lines that stand beside them, and look as its text says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import sightline as sl
from docs.pages import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", ROOT / "docs" / "make_gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(script: ModuleType) -> None:
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == script.page()
    assert {path.stem for path in script.IMAGES.glob("*.png")} == {*script.FIGURES}
    for path in script.IMAGES.glob("*.png"):
        assert path.stat().st_size < 150_000


def test_each_line_draws_its_figure(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    few = re.sub(r"limit=\d+", "limit=4", script.SETUP)
    for name, figure in script.drawn(few):
        text = sl.save_figure(figure, tmp_path / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in text, name
        assert b"/Type3" not in text, f"{name}: fonts are embedded whole, not drawn"
        width, _ = getattr(figure, "figure", figure).get_size_inches()
        assert width in (3.35, 6.9), name


def test_bars_and_lines_stay_apart_in_grey(script: ModuleType) -> None:
    from sightline.results.style import COLOURS, HATCHES, distinct, striped

    lines = [next_style for next_style, _ in zip(distinct(), COLOURS, strict=False)]
    assert len({(str(style["linestyle"]), style["marker"]) for style in lines}) == len(COLOURS)
    bars = [style["hatch"] for style, _ in zip(striped(), COLOURS, strict=False)]
    assert len(set(bars)) == len(COLOURS) == len(HATCHES)


def test_the_kept_figures_are_a_column_or_a_page_wide(script: ModuleType) -> None:
    for path in script.IMAGES.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width in (round(3.35 * 160), round(6.9 * 160)), path.name
