"""Figures of impact maps: layers by tokens, the picture by layer, heads; written as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import SightlineError
from sightline.knockout.result import MEASURES, SIGNED, Array, ImpactMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from PIL import Image

DPI = 150
KINDS = ("png", "svg")

SUMMED_FROM = 40
"""From so many image tokens on, a heat map has a column for each row of patches instead of each patch."""

LABELS = 130
"""Columns that can be named; of more, every second, third, ... is."""

PANELS = 12
"""Layers that the picture is shown for; of more, evenly spaced ones with the first and the last."""

NAME = 60
"""Letters of a model's name that are drawn."""

HEADS = 8
"""Layers, and heads, whose small maps are drawn; of more, evenly spaced ones."""

STRETCH = 4.0
"""Colours end at the 98th percentile where the largest value is so many times as large, and the bar says so."""

MOST = 10.0
"""The largest value is at most so many times the colours' end: what is tiny beside it stays pale."""


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


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Each figure as NAME.png and NAME.svg in a folder; SightlineError when a file cannot be written."""
    paths = [folder / f"{name}.{kind}" for name in figures for kind in KINDS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figures[path.stem].savefig(path, dpi=DPI)
    except OSError as error:
        raise SightlineError(f"The figures could not be written into {folder} ({error.strerror or error}).") from error
    return paths


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
    _cells(figure, axes, values, name, " summed" if has_sums else "")
    _layer_ticks(axes, found.layers)
    step = math.ceil(len(columns) / LABELS)
    shown = range(0, len(columns), step)
    axes.set_xticks(shown, [columns[place].label for place in shown], rotation=90, fontsize=6)
    _mark_modalities(axes, found, columns)
    note = "; patches of a row of an image are summed" if has_sums else ""
    axes.set_title(f"{title(found)}{note}", fontsize=9, loc="left")
    axes.set_xlabel("hidden")
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
        return printable(first.text)
    image = "" if first.image in (None, 0) and not _has_many_images(found) else f" {(first.image or 0) + 1}"
    if len(indices) > 1:
        return f"{first.modality}{image} row {first.row}"
    return f"{first.modality}{image} {first.row},{first.col}"


def _has_many_images(found: ImpactMap) -> bool:
    return len({source.image for source in found.tokens if source.image is not None}) > 1


def printable(text: str, most: int = 18) -> str:
    """A token's text as one short word: signs that the figures' font cannot draw are escaped, long words cut."""
    known = _drawable()
    signs = [
        sign if sign.isprintable() and ord(sign) in known else sign.encode("unicode_escape").decode()
        for sign in text[: most + 1]
    ]
    is_whole = sum(map(len, signs)) <= most
    while sum(map(len, signs)) > most - (not is_whole):  # an escape is cut off whole
        signs.pop()
    shown = "".join(signs).replace("$", "\\$")  # not the beginning of a formula
    return shown if is_whole else f"{shown}…"


@cache
def _drawable() -> frozenset[int]:
    """Code points that the figures' font has; of others Matplotlib would draw a box, and warn."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


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
    places = _spaced(len(found.layers), PANELS)
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
    if _is_of_all_layers(found):
        return "hidden at every layer"
    return f"{'tower layer' if found.mode == 'tower' else 'layer'} {found.layers[place]}"


def _is_of_all_layers(found: ImpactMap) -> bool:
    return found.settings.get("layers_cut") == "all"


# Heads --------------------------------------------------------------------------------------------------------------


def head_shares(found: ImpactMap) -> Figure:
    """Layers by heads, the distances that hiding single sources makes summed over text, and over what is no text."""
    values = found.maps["l2_heads"]
    names = ["text", *sorted({source.modality for source in found.tokens} - {"text"})]
    parts = {name: [index for index, source in enumerate(found.tokens) if source.modality == name] for name in names}
    parts = {name: indices for name, indices in parts.items() if indices}
    totals = {name: np.nansum(values[:, :, indices], axis=-1) for name, indices in parts.items()}
    width = min(10.0, max(2.6, 0.28 * values.shape[1]))
    figure = blank_figure(1.4 + width * len(parts), 1.6 + min(8.0, max(1.8, 0.2 * len(found.layers))))
    grid = figure.subplots(1, len(parts), squeeze=False)[0]
    top = max(float(total.max()) for total in totals.values()) or 1.0
    for axes, (name, total) in zip(grid, totals.items(), strict=True):
        shown = axes.imshow(total, aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=top)
        _layer_ticks(axes, found.layers)
        axes.set_xlabel("head")
        axes.set_title(f"{name} ({len(parts[name])} sources)", fontsize=8)
    figure.colorbar(shown, ax=list(grid), label="L2 distance of the head's output,\nsummed over sources")
    figure.suptitle(title(found), fontsize=9)
    return figure


def head_maps(found: ImpactMap) -> Figure:
    """A small map for each of up to 8 x 8 layers and heads: the patches of an image, or the sources as a strip."""
    values = found.maps["l2_heads"]
    layers, heads = _spaced(values.shape[0], HEADS), _spaced(values.shape[1], HEADS)
    grids = [source.grid for source in found.tokens if source.row is not None]
    chosen = grids[0] if grids else None
    figure = blank_figure(1.2 + 1.05 * len(heads), 1.0 + 1.05 * len(layers))
    panels = figure.subplots(len(layers), len(heads), squeeze=False)
    shown_values = values[np.ix_(layers, heads, range(values.shape[2]))]
    norm, colours, extend = scale_of("l2_heads", shown_values)
    for line, layer in enumerate(reversed(layers)):
        for column, head in enumerate(heads):
            axes = panels[line, column]
            axes.set_xticks([])
            axes.set_yticks([])
            table = _patch_table(found, values[layer, head], chosen)
            shown = axes.imshow(np.ma.masked_invalid(table), cmap=colours, norm=norm, aspect="auto")
            if not column:
                axes.set_ylabel(f"layer {found.layers[layer]}", fontsize=7)
            if line == len(layers) - 1:
                axes.set_xlabel(f"head {head}", fontsize=7)
    figure.colorbar(shown, ax=list(panels.flat), label=MEASURES["l2_heads"], extend=extend, shrink=0.8)
    of_what = "sources, in the order of the prompt" if chosen is None else f"patches of grid {chosen}"
    figure.suptitle(f"{title(found)}; {of_what}", fontsize=9)
    return figure


def _patch_table(found: ImpactMap, values: Array, grid: int | None) -> Array:
    """The values of one grid in its rows and columns; without a grid a single row of all."""
    if grid is None:
        return values[None]
    mine = [(source, value) for source, value in zip(found.tokens, values, strict=True) if source.grid == grid]
    rows = sorted({source.row for source, _ in mine if source.row is not None})
    cols = sorted({source.col for source, _ in mine if source.col is not None})
    table: Array = np.full((len(rows), len(cols)), np.nan)
    for source, value in mine:
        if source.row is not None and source.col is not None:
            table[rows.index(source.row), cols.index(source.col)] = value
    return table


# Shared -------------------------------------------------------------------------------------------------------------


def title(found: ImpactMap) -> str:
    """What was measured: the model, the mode and its window, the row, and the answer where it is known."""
    window = found.settings.get("window", 1)
    parts = [short_name(found.model)]
    if found.settings.get("scope") == "every-row":
        parts.append(f"{found.mode}, hidden from every row")
    else:
        parts.append(found.mode)
    if window not in (None, 1) and not _is_of_all_layers(found):
        parts.append(f"window {window}")
    parts.append("mean over rows" if found.row == "all" else f"row {found.row}")
    told = found.baseline.get("text")
    if told is not None:
        parts.append(f"answer “{printable(str(told))}” ({found.baseline['prob']:.2f})")
    return ", ".join(parts)


def short_name(model: str) -> str:
    """A model's name as it can be drawn; of a folder the last part."""
    name = model.rstrip("/").rsplit("/", 1)[-1] if model.startswith((".", "/", "~")) else model
    return printable(name, NAME)


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    # No pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _cells(figure: Figure, axes: Axes, values: Array, measure: str, note: str = "") -> None:
    norm, colours, extend = scale_of(measure, values)
    axes.set_facecolor("0.85")  # what is not defined
    shown = axes.imshow(
        np.ma.masked_invalid(values), aspect="auto", origin="lower", interpolation="nearest", cmap=colours, norm=norm
    )
    figure.colorbar(shown, ax=axes, label=MEASURES.get(measure, measure) + note, extend=extend)


def _layer_ticks(axes: Axes, layers: Sequence[int]) -> None:
    step = math.ceil(len(layers) / 40)
    places = range(0, len(layers), step)
    axes.set_yticks(places, [str(layers[place]) for place in places], fontsize=7)
    axes.set_ylabel("layer", fontsize=8)


def scale_of(measure: str, values: Array, is_whole: bool = False) -> tuple[Normalize, str, str]:
    """(norm, colour map, ends of the bar): symmetric about zero for signed measures, else from zero.

    A few values that are far larger than the rest, as a sink's, would leave the rest without colour: then the colours
    end before the largest, and the bar's end is an arrow. is_whole: never.
    """
    from matplotlib.colors import Normalize

    sizes = np.abs(values[np.isfinite(values)])
    largest = float(sizes.max()) if sizes.size else 0.0
    usual = max(float(np.percentile(sizes, 98)), largest / MOST) if sizes.size else 0.0
    is_cut = not is_whole and measure != "flip" and largest > STRETCH * usual
    top = (usual if is_cut else largest) or 1.0
    if measure in SIGNED:
        return Normalize(-top, top), "RdBu", "both" if is_cut else "neither"
    return Normalize(0.0, 1.0 if measure == "flip" else top), "magma", "max" if is_cut else "neither"


def _spaced(count: int, most: int) -> list[int]:
    """Up to `most` of 0..count - 1, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
