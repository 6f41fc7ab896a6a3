"""Figures of an impact map by head: shares of text and of the rest, and a small map for each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sightline.knockout.measures import MEASURES, Array
from sightline.knockout.result import ImpactMap
from sightline.pages.impact_drawing import (
    blank_figure,
    layer_ticks,
    scale_of,
    spaced,
    title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = 8
"""Layers, and heads, whose small maps are drawn; of more, evenly spaced ones."""


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
        layer_ticks(axes, found.layers)
        axes.set_xlabel("head")
        axes.set_title(f"{name} ({len(parts[name])} sources)", fontsize=8)
    figure.colorbar(shown, ax=list(grid), label="L2 distance of the head's output,\nsummed over sources")
    figure.suptitle(title(found), fontsize=9)
    return figure


def head_maps(found: ImpactMap) -> Figure:
    """A small map for each of up to 8 x 8 layers and heads: the patches of an image, or the sources as a strip."""
    values = found.maps["l2_heads"]
    layers, heads = spaced(values.shape[0], HEADS), spaced(values.shape[1], HEADS)
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
