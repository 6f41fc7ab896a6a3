"""What all figures of impact maps share: titles, colours, layers' marks, words that can be drawn, files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import SightlineError
from sightline.knockout.measures import MEASURES, SIGNED, Array
from sightline.knockout.result import ImpactMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

DPI = 150


KINDS = ("png", "svg")


NAME = 60
"""Letters of a model's name that are drawn."""


STRETCH = 4.0
"""Colours end at the 98th percentile where the largest value is so many times as large, and the bar says so."""


MOST = 10.0
"""The largest value is at most so many times the colours' end: what is tiny beside it stays pale."""


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


def short_word(text: str, most: int = 18) -> str:
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


def is_of_all_layers(found: ImpactMap) -> bool:
    return found.settings.get("layers_cut") == "all"


def title(found: ImpactMap) -> str:
    """What was measured: the model, the mode and its window, the row, and the answer where it is known."""
    window = found.settings.get("window", 1)
    parts = [short_name(found.model)]
    if found.settings.get("scope") == "every-row":
        parts.append(f"{found.mode}, hidden from every row")
    else:
        parts.append(found.mode)
    if window not in (None, 1) and not is_of_all_layers(found):
        parts.append(f"window {window}")
    parts.append("mean over rows" if found.row == "all" else f"row {found.row}")
    answer = found.baseline.get("text")
    if answer is not None:
        kind = "followed" if "predicted_text" in found.baseline else "answer"
        parts.append(f"{kind} “{short_word(str(answer))}” ({found.baseline['prob']:.2f})")
    return ", ".join(parts)


def short_name(model: str) -> str:
    """A model's name as it can be drawn; of a folder the last part."""
    name = model.rstrip("/").rsplit("/", 1)[-1] if model.startswith((".", "/", "~")) else model
    return short_word(name, NAME)


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    # No pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_cells(figure: Figure, axes: Axes, values: Array, measure: str, note: str = "") -> None:
    norm, colours, extend = scale_of(measure, values)
    axes.set_facecolor("0.85")  # what is not defined
    shown = axes.imshow(
        np.ma.masked_invalid(values), aspect="auto", origin="lower", interpolation="nearest", cmap=colours, norm=norm
    )
    figure.colorbar(shown, ax=axes, label=MEASURES.get(measure, measure) + note, extend=extend)


def layer_ticks(axes: Axes, layers: Sequence[int]) -> None:
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


def spaced(count: int, most: int) -> list[int]:
    """Up to `most` of 0..count - 1, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
