"""One look for all figures: the size of a column or a page, fonts that stay text, colours that the colour-blind see
and a grey printer keeps different.

Colours are those of Okabe and Ito; lines differ in their dashes and markers as well, so that nothing rests on colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError, SightlineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = Literal["paper", "screen"]
Width = Literal["column", "page"]

KINDS = ("pdf", "svg", "png")
"""What a figure can be written as."""

INCHES: dict[str, float] = {"column": 3.35, "page": 6.9}
"""Widths of a column and of a page in inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
"""Of bars, which so differ in grey as well."""

_POINTS: dict[str, float] = {"paper": 8.0, "screen": 10.0}


@contextmanager
def look(style: Style = "paper") -> Iterator[None]:
    """Inside, figures are made in this look; InputError for one that there is not."""
    import matplotlib
    from cycler import cycler

    if style not in _POINTS:
        raise InputError(f"There is no style {style!r}: give {' or '.join(_POINTS)}.")
    size = _POINTS[style]
    drawn = cycler(color=COLOURS) + cycler(linestyle=DASHES) + cycler(marker=MARKERS)
    settings: dict[str, Any] = {
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "legend.fontsize": size - 1,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.2 if style == "paper" else 1.8,
        "lines.markersize": 3 if style == "paper" else 5,
        "legend.frameon": False,
        "axes.prop_cycle": drawn,
        "figure.constrained_layout.use": True,
        "pdf.fonttype": 42,  # TrueType: words in the file stay words
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def axes_of(ax: Any, width: Width = "column", ratio: float = 0.7) -> Axes:
    """The axes that were given, or those of a new figure of this width; ratio: its height over its width."""
    if ax is not None:
        return ax  # type: ignore[no-any-return]
    if width not in INCHES:
        raise InputError(f"There is no width {width!r}: give {' or '.join(INCHES)}.")
    # No pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    inches = INCHES[width]
    return Figure(figsize=(inches, inches * ratio)).subplots()


def distinct() -> Iterator[dict[str, Any]]:
    """Colour, dashes and marker of one line after another."""
    for colour, dash, marker in zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False):
        yield {"color": colour, "linestyle": dash, "marker": marker}


def striped() -> Iterator[dict[str, Any]]:
    """Colour and hatching of one row of bars after another."""
    for colour, hatch in zip(cycle(COLOURS), cycle(HATCHES), strict=False):
        yield {"color": colour, "hatch": hatch, "edgecolor": "white"}


def save_figure(drawn: Axes | Figure, path: str | Path, dpi: int = 300) -> Path:
    """Write a figure as its file name says: .pdf, .svg or .png, fonts embedded as text.

    Raises:
        InputError: for another ending.
        SightlineError: when the file cannot be written.
    """
    place = Path(path)
    if place.suffix.lstrip(".") not in KINDS:
        raise InputError(f"{place.name} does not say what to write: end it in .{', .'.join(KINDS)}.")
    figure: Any = getattr(drawn, "figure", drawn)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with look():
            figure.savefig(place, dpi=dpi, metadata={"Date": None} if place.suffix == ".svg" else None)
    except OSError as error:
        raise SightlineError(f"The figure {place} could not be written ({error.strerror or error}).") from error
    return place
