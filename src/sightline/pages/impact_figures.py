"""Figures of impact maps: layers by tokens, the picture by layer, heads; written as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.knockout.measures import ACTS, MEASURES, Array
from sightline.knockout.result import ImpactMap
from sightline.pages.head_figures import head_maps, head_shares
from sightline.pages.impact_drawing import (
    blank_figure,
    draw_cells,
    is_of_all_layers,
    layer_ticks,
    save_figures,
    scale_of,
    short_word,
    spaced,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image


SUMMED_FROM = 40
"""From so many image tokens on, a heat map has a column for each row of patches instead of each patch."""

LABELS = 130
"""Columns that can be named; of more, every second, third, ... is."""

PANELS = 12
"""Layers that the picture is shown for; of more, evenly spaced ones with the first and the last."""


@dataclass(frozen=True)
class Column:
    """A column of a heat map. indices: the sources that are summed in it."""

    label: str
    indices: tuple[int, ...]


def impact_figures(found: ImpactMap, folder: Path, pictures: Sequence[Image.Image] = (), stem: str = "") -> list[Path]:
    """Writes each figure that the map has numbers for, as PNG and SVG, and returns their paths.

    Names: heat_map; overlay, where sources lie in a picture that is given; heads and head_maps for per-head maps. stem:
    goes in front of each name.

    Raises:
        SightlineError: when a file cannot be written.
    """
    drawn: dict[str, Figure] = {"heat_map": heat_map(found)}
    if pictures and any(_is_placed(source, len(pictures)) for source in found.tokens):
        drawn["overlay"] = overlay(found, pictures)
    if "l2_heads" in found.maps:
        drawn["heads"] = head_shares(found)
        drawn["head_maps"] = head_maps(found)
    return save_figures({f"{stem}{name}": figure for name, figure in drawn.items()}, folder)


def parts_figure(found: ImpactMap, folder: Path, pictures: Sequence[Image.Image]) -> list[Path]:
    """Writes overlay_every_row of blocks that are hidden from every row; nothing where none lies in a picture."""
    if not pictures or not any(_is_placed(source, len(pictures)) for source in found.tokens):
        return []
    return save_figures({"overlay_every_row": overlay(found, pictures)}, folder)


# Layers by tokens ---------------------------------------------------------------------------------------------------


def heat_map(found: ImpactMap, measure: str | None = None) -> Figure:
    """Layers upwards, sources to the right. Of many patches, those of one row of an image are summed in a column."""
    name = measure or found.measure
    columns = columns_of(found)
    values = summed(found.values(name), columns)
    figure = blank_figure(
        min(24.0, max(6.4, 2.2 + 0.17 * len(columns))), 2.4 + min(8.0, max(1.6, 0.2 * len(found.layers)))
    )
    axes = figure.subplots()
    has_sums = any(len(column.indices) > 1 for column in columns)
    draw_cells(figure, axes, values, name, " summed" if has_sums else "")
    layer_ticks(axes, found.layers)
    if found.mode == "locate":
        axes.set_yticks([0], [_layer_name(found, 0)], fontsize=7)
        axes.set_ylabel("")
    step = math.ceil(len(columns) / LABELS)
    shown = range(0, len(columns), step)
    axes.set_xticks(shown, [columns[place].label for place in shown], rotation=90, fontsize=6)
    _mark_modalities(axes, found, columns)
    note = "; patches of a row of an image are summed" if has_sums else ""
    axes.set_title(f"{title(found)}{note}", fontsize=9, loc="left")
    axes.set_xlabel("taken away" if found.tokens[0].kind == "head" else ACTS.get(found.mode, "hidden"))
    return figure


def columns_of(found: ImpactMap) -> list[Column]:
    """The columns of a heat map, in the order of the prompt."""
    placed = [source.row is not None for source in found.tokens]
    is_summed = sum(placed) >= SUMMED_FROM
    columns: dict[tuple[Any, ...], list[int]] = {}
    for index, source in enumerate(found.tokens):
        key = (source.modality, source.grid, source.image, source.row) if is_summed and placed[index] else (index,)
        columns.setdefault(key, []).append(index)
    return [Column(_label(found, indices), tuple(indices)) for indices in columns.values()]


def summed(values: Array, columns: Sequence[Column]) -> Array:
    """[layers, columns]; a column without any defined value is NaN."""
    parts = [values[:, list(column.indices)] for column in columns]
    sums = [np.where(np.isfinite(part), part, 0.0).sum(1) for part in parts]
    known = [np.isfinite(part).any(1) for part in parts]
    return np.stack([np.where(any_, total, np.nan) for total, any_ in zip(sums, known, strict=True)], 1)


def _label(found: ImpactMap, indices: Sequence[int]) -> str:
    first = found.tokens[indices[0]]
    if len(indices) == 1 and (first.row is None or first.modality == "text"):
        return short_word(first.text)
    image = "" if first.image in (None, 0) and not _has_many_images(found) else f" {(first.image or 0) + 1}"
    if len(indices) > 1:
        return f"{first.modality}{image} row {first.row}"
    return f"{first.modality}{image} {first.row},{first.col}"


def _has_many_images(found: ImpactMap) -> bool:
    return len({source.image for source in found.tokens if source.image is not None}) > 1


def _mark_modalities(axes: Axes, found: ImpactMap, columns: Sequence[Column]) -> None:
    """A thin line wherever text meets image."""
    names = [found.tokens[column.indices[0]].modality for column in columns]
    for place in range(1, len(names)):
        if names[place] != names[place - 1]:
            axes.axvline(place - 0.5, color="0.35", linewidth=0.8)


# The picture --------------------------------------------------------------------------------------------------------


def overlay(found: ImpactMap, pictures: Sequence[Image.Image], measure: str | None = None) -> Figure:
    """The picture under the effect of its patches, a panel a layer and picture, all on one scale.

    Where patches overlap, as those of tiles and of the whole image, their effects are added.
    """
    name = measure or found.measure
    values = found.values(name)
    places = spaced(len(found.layers), PANELS)
    images = [
        index for index in range(len(pictures)) if any(_is_at(source, index, len(pictures)) for source in found.tokens)
    ]
    rasters = {
        (image, place): _raster(found, values[place], image, len(pictures)) for image in images for place in places
    }
    norm, colours, extend = scale_of(
        name, np.concatenate([raster.ravel() for raster in rasters.values()]), is_whole=True
    )
    panels = [(image, place) for image in images for place in (None, *places)]
    across = min(5, len(panels)) if len(images) == 1 else len(places) + 1
    down = math.ceil(len(panels) / across)
    figure = blank_figure(1.2 + 2.0 * across, 0.9 + 2.1 * down)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    shown = None
    for axes, (image, place) in zip(grid.flat, panels, strict=False):
        width, height = pictures[image].size
        extent = (0, width, height, 0)
        if place is None:
            axes.imshow(pictures[image], extent=extent)
            axes.set_title("picture" if len(images) == 1 else f"image {image + 1}", fontsize=8)
            continue
        axes.imshow(pictures[image].convert("L"), cmap="gray", vmin=0, vmax=400, extent=extent)
        raster = np.ma.masked_invalid(rasters[image, place])
        shown = axes.imshow(raster, cmap=colours, norm=norm, alpha=0.65, extent=extent)
        axes.set_title(_layer_name(found, place), fontsize=8)
    if shown is not None:
        figure.colorbar(shown, ax=list(grid.flat), label=MEASURES.get(name, name), extend=extend, shrink=0.8)
    left_out = "" if len(places) == len(found.layers) else f"; {len(places)} of {len(found.layers)} layers"
    figure.suptitle(f"{title(found)}{left_out}", fontsize=9)
    return figure


def _raster(found: ImpactMap, values: Array, image: int, count: int, side: int = 240) -> Array:
    """[side, side] of a picture's effects; NaN where no source lies."""
    total, known = np.zeros((side, side)), np.zeros((side, side), dtype=bool)
    for source, value in zip(found.tokens, values, strict=True):
        if source.box is None or not _is_at(source, image, count) or not np.isfinite(value):
            continue
        left, top, right, bottom = (round(edge * side) for edge in source.box)
        total[top:bottom, left:right] += value
        known[top:bottom, left:right] = True
    return np.where(known, total, np.nan)


def _is_placed(source: Any, count: int) -> bool:
    return source.box is not None and source.modality == "image" and (source.image or 0) < count


def _is_at(source: Any, image: int, count: int) -> bool:
    return _is_placed(source, count) and (source.image or 0) == image


def _layer_name(found: ImpactMap, place: int) -> str:
    if found.mode == "vision":
        return "painted over"
    if found.mode == "locate":
        return f"heads {', '.join(found.baseline.get('heads', ()))}"
    if is_of_all_layers(found):
        return "hidden at every layer"
    return f"{'tower layer' if found.mode == 'tower' else 'layer'} {found.layers[place]}"


# Heads --------------------------------------------------------------------------------------------------------------


# Shared -------------------------------------------------------------------------------------------------------------
