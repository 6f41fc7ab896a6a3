"""Figures of impact maps: readable whatever the number of tokens, honest in their scales."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.errors import SightlineError
from sightline.knockout import ImpactMap, Source
from sightline.knockout.compare import compare_maps
from sightline.pages.compare_figures import compare_figures, side_by_side
from sightline.pages.head_figures import head_maps, head_shares
from sightline.pages.impact_drawing import save_figures, scale_of, short_word
from sightline.pages.impact_figures import LABELS, columns_of, heat_map, impact_figures, overlay, summed


def sources(text: int, side: int, image: int = 0, first: int = 0) -> list[Source]:
    words = [Source((first + place,), f"word{place}") for place in range(text)]
    patches = [
        Source(
            (first + text + row * side + col,), "<image>", "image", image, row, col, grid=image,
            box=(col / side, row / side, (col + 1) / side, (row + 1) / side),
        )
        for row in range(side)
        for col in range(side)
    ]  # fmt: skip
    return [*words, *patches]


def impact_map(tokens: list[Source], layers: int = 3, **fields: Any) -> ImpactMap:
    values = np.random.default_rng(0).normal(size=(layers, len(tokens)))
    fields = {"mode": "causal", "maps": {"logprob": values}, "baseline": {"text": "yes", "prob": 0.5}} | fields
    return ImpactMap("a/b", tokens=tuple(tokens), row=9, layers=tuple(range(layers)), **fields)


def test_of_many_patches_a_row_is_a_column() -> None:
    found = impact_map(sources(20, 24))
    columns = columns_of(found)
    assert [column.label for column in columns[19:22]] == ["word19", "image row 0", "image row 1"]
    assert len(columns) == 20 + 24
    values = found.values()
    assert summed(values, columns)[:, 20] == pytest.approx(values[:, 20:44].sum(1))
    (axes, bar) = heat_map(found).axes
    assert "patches of a row of an image are summed" in axes.get_title(loc="left")
    assert "summed" in bar.get_ylabel()
    few = impact_map(sources(4, 3))
    assert [column.label for column in columns_of(few)[3:6]] == ["word3", "image 0,0", "image 0,1"]
    assert "summed" not in heat_map(few).axes[1].get_ylabel()


def test_labels_never_crowd() -> None:
    figure = heat_map(impact_map([Source((place,), f"w{place}") for place in range(700)], layers=80))
    axes = figure.axes[0]
    assert len(axes.get_xticks()) <= LABELS
    assert len(axes.get_yticks()) <= 40
    assert figure.get_size_inches().max() <= 24


def test_what_is_not_defined_is_left_out() -> None:
    values = np.full((2, 13), np.nan)
    values[0, :] = 1.0
    found = impact_map(sources(4, 3), 2, maps={"kl": values})
    assert np.isnan(summed(values, columns_of(found))[1]).all()
    for figure in (heat_map(found), overlay(found, [Image.new("RGB", (30, 20))])):
        figure.draw_without_rendering()
    nothing = impact_map(sources(4, 3), 2, maps={"kl": np.full((2, 13), np.nan)})
    heat_map(nothing).draw_without_rendering()


def test_scales() -> None:
    norm, _, ends = scale_of("logprob", np.array([-2.0, 1.0]))
    assert (norm.vmin, norm.vmax, ends) == (-2.0, 2.0, "neither")
    norm, _, ends = scale_of("l2", np.array([0.0, 1.0]))
    assert (norm.vmin, norm.vmax, ends) == (0.0, 1.0, "neither")
    outlier = np.array([1.0] * 100 + [60.0])
    norm, _, ends = scale_of("l2", outlier)
    assert (norm.vmax, ends) == (6.0, "max"), "the bar says that the colours end before the largest"
    assert scale_of("l2", outlier, is_whole=True)[0].vmax == 60.0
    assert scale_of("flip", np.zeros(3))[0].vmax == 1.0
    assert scale_of("kl", np.array([np.nan]))[0].vmax == 1.0


def test_an_overlay_puts_effects_where_their_patches_lie() -> None:
    values = np.zeros((1, 9))
    values[0, 5] = -3.0  # row 1, column 2
    found = impact_map(sources(0, 3), 1, maps={"logprob": values})
    picture, layer = overlay(found, [Image.new("RGB", (90, 60))]).axes[:2]
    assert picture.get_title() == "picture"
    raster = np.asarray(layer.images[1].get_array())
    rows, cols = np.nonzero(raster)
    assert (rows.min() / 240, cols.min() / 240) == (pytest.approx(1 / 3, abs=0.01), pytest.approx(2 / 3, abs=0.01))
    assert (rows.max() + 1) / 240 == pytest.approx(2 / 3, abs=0.01)
    assert layer.images[1].get_extent() == [0, 90, 60, 0]


def test_several_pictures_and_many_layers() -> None:
    found = impact_map([*sources(2, 2), *sources(0, 3, image=1, first=6)], 40)
    figure = overlay(found, [Image.new("RGB", (9, 9)), Image.new("RGB", (20, 9))])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("layer 39") == 2
    assert "image 2" in titles
    assert "12 of 40 layers" in figure.get_suptitle()


def test_heads() -> None:
    heads = np.random.default_rng(0).random((10, 12, 13))
    found = impact_map(sources(4, 3), 10, mode="local", maps={"l2": heads.mean(1), "l2_heads": heads})
    text, image, _ = head_shares(found).axes
    assert (text.get_title(), image.get_title()) == ("text (4 sources)", "image (9 sources)")
    assert image.images[0].get_array()[2, 3] == pytest.approx(heads[2, 3, 4:].sum())
    panels = head_maps(found).axes[:-1]
    assert len(panels) == 64
    assert panels[0].get_ylabel() == "layer 9"
    assert np.asarray(panels[0].images[0].get_array()) == pytest.approx(heads[9, 0, 4:].reshape(3, 3))
    strip = impact_map(sources(5, 0), 2, mode="local", maps={"l2_heads": np.ones((2, 2, 5))})
    assert head_maps(strip).axes[0].images[0].get_array().shape == (1, 5)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_files_are_written_in_both_kinds(tmp_path: Path) -> None:
    awkward = [Source((place,), word) for place, word in enumerate(["\0", "$x^$", "שלום", "👁", "\ud800", "x" * 90, ""])]
    found = impact_map([*awkward, *sources(0, 2, first=7)], 2)
    paths = impact_figures(found, tmp_path / "figures", [Image.new("RGB", (8, 8))], "a_")
    assert [path.name for path in paths] == ["a_heat_map.png", "a_heat_map.svg", "a_overlay.png", "a_overlay.svg"]
    assert min(Image.open(paths[0]).size) > 300
    (tmp_path / "file").touch()
    with pytest.raises(SightlineError, match="could not be written"):
        save_figures({}, tmp_path / "file" / "figures")


def test_a_text_is_one_short_word() -> None:
    assert short_word("\n") == "\\n"
    assert short_word("x" * 50) == "x" * 17 + "…"
    assert short_word("$") == "\\$"
    assert short_word("天") == "\\u5929", "what the font lacks is escaped, not drawn as a box"
    assert short_word("é שלום") == "é שלום"
    assert short_word("a👁👁👁") == "a\\U0001f441…", "an escape is cut off whole"


def test_names_that_no_font_here_has_are_drawn_without_a_warning(tmp_path: Path) -> None:
    words = [Source((place,), word) for place, word in enumerate(["图像", "👁", "cat"])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = replace(impact_map(words, 2, baseline={"text": "是", "prob": 0.5}), model="models/模型")
        impact_figures(found, tmp_path)
        compare_figures(compare_maps(found, found), tmp_path)


def test_two_models_on_one_scale() -> None:
    words = [Source((place,), word) for place, word in enumerate("is there a cat".split())]
    a = impact_map(words, 3, maps={"kl": np.ones((3, 4))})
    b = impact_map(words[1:], 5, maps={"kl": np.full((5, 3), 7.0)})
    upper, lower, _ = side_by_side(compare_maps(a, b)).axes
    assert upper.images[0].norm is lower.images[0].norm
    assert upper.images[0].norm.vmax == 7.0
    assert [label.get_text() for label in lower.get_xticklabels()] == ["there", "a", "cat"]
    assert "1 and 0 tokens without a partner" in lower.get_xlabel()
