"""The figure of two impact maps side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.knockout.compare import MapComparison
from sightline.knockout.measures import MAIN, MEASURES
from sightline.pages.impact_drawing import blank_figure, save_figures, scale_of, short_name, short_word
from sightline.pages.impact_figures import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare_figures(found: MapComparison, folder: Path) -> list[Path]:
    """Writes compare.png and compare.svg, and returns their paths; SightlineError when they cannot be written."""
    return save_figures({"compare": side_by_side(found)}, folder)


def side_by_side(found: MapComparison, measure: str | None = None) -> Figure:
    """Relative depth upwards, aligned tokens to the right; the first model above the second, on one scale."""
    name = measure or next((name for name in MAIN if name in found.maps_a), next(iter(found.maps_a)))
    both = (found.maps_a[name], found.maps_b[name])
    figure = blank_figure(min(24.0, max(6.4, 2.2 + 0.17 * len(found.pairs))), 6.0)
    norm, colours, extend = scale_of(name, np.concatenate([values.ravel() for values in both]))
    panels = figure.subplots(2, 1, sharex=True)
    half = 0.5 / (len(found.depths) - 1)
    for axes, values, model in zip(panels, both, (found.a.model, found.b.model), strict=True):
        axes.set_facecolor("0.85")
        shown = axes.imshow(
            np.ma.masked_invalid(values),
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            cmap=colours,
            norm=norm,
            extent=(-0.5, len(found.pairs) - 0.5, -half, 1 + half),
        )
        axes.set_ylabel("relative depth", fontsize=8)
        axes.set_title(short_name(model), fontsize=9, loc="left")
    step = math.ceil(len(found.pairs) / LABELS)
    places = range(0, len(found.pairs), step)
    panels[-1].set_xticks(places, [short_word(found.pairs[place][0].text) for place in places], rotation=90, fontsize=6)
    panels[-1].set_xlabel(f"hidden; {len(found.only_a)} and {len(found.only_b)} tokens without a partner are left out")
    figure.colorbar(shown, ax=list(panels), label=MEASURES.get(name, name), extend=extend)
    figure.suptitle(f"{found.a.mode}, aligned by token text and relative depth", fontsize=9)
    return figure
