"""Figures are drawn whatever is missing in a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.errors import SightlineError
from sightline.pages.figures import dominance_figures, mdi_by_layer, stage_bars


def document(mdi: float | None, interval: list[float] | None) -> dict[str, Any]:
    layers = [{"layer": layer, "mdi": mdi, "mdi_ci95": interval, "mdi_no_sinks": mdi} for layer in range(4)]
    stages = {
        stage: {"layers": [first, first + 1], "mdi": mdi, "mdi_ci95": interval}
        for first, stage in enumerate(("early", "middle", "late"))
    }
    return {"samples": 3, "queries": "generated", "layers": layers, "stages": stages}


@pytest.mark.parametrize(
    "documents",
    [
        {"one": document(2.0, [1.5, 2.5])},
        {"one sample": document(2.0, None)},
        {"no image": document(None, None)},
        {"one": document(2.0, [1.5, 2.5]), "two": document(0.5, None), "three": document(None, None)},
    ],
    ids=lambda documents: " and ".join(documents),
)
def test_both_figures_are_written(tmp_path: Path, documents: dict[str, Any]) -> None:
    paths = dominance_figures(documents, tmp_path / "figures")
    names = ["mdi_by_layer.png", "mdi_by_layer.svg", "stages.png", "stages.svg"]
    assert [path.name for path in paths] == names
    for path in paths[::2]:
        assert min(Image.open(path).size) > 500
    assert all("</svg>" in path.read_text() for path in paths[1::2])


def test_lines_carry_names_and_values() -> None:
    (axes,) = mdi_by_layer({"a": document(2.0, [1.5, 2.5]), "b": document(0.5, None)}).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines["a"] == [2.0] * 4
    assert lines["b"] == [0.5] * 4


def test_figures_say_what_their_parts_are() -> None:
    drawn = document(2.0, [1.5, 2.5])
    for figure in (mdi_by_layer({"a": drawn}), stage_bars({"a": drawn})):
        (axes,) = figure.axes
        assert axes.get_title() == "3 samples, queries generated, 95% intervals"
        figure.draw_without_rendering()
        (balanced,) = axes.texts
        assert balanced.get_window_extent().x0 >= axes.get_window_extent().x1, "hidden behind bars and lines"
        assert balanced.get_window_extent().x1 <= figure.bbox.x1
    assert axes.get_xticklabels()[0].get_text() == "early\nlayers 0, 1"
    (axes,) = stage_bars({"a": document(2.0, None) | {"samples": 1}}).axes
    assert axes.get_title() == "1 sample, queries generated"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SightlineError, match="could not be written"):
        dominance_figures({"a": document(1.0, None)}, tmp_path / "file" / "figures")
