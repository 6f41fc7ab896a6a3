"""`calibrate` documents as figures: how well each instrument agrees with each truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError
from sightline.pages.forest import Effect, forest
from sightline.pages.tables.calibrate import TITLES
from sightline.results.style import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
NAME = "calibration"


def truth_axes(document: Mapping[str, Any], axes: Axes, truth: str) -> Axes:
    """One truth: an instrument a line, the best first, its chance as a dotted line. Of several models one mean a line.

    truth: the name of a truth, or its first word.
    """
    rows = [row for row in document["instruments"] if truth in (row["truth"], row["truth"].split()[0])]
    models = len({row["model"] for row in rows})
    effects = []
    for row in sorted(rows, key=lambda row: -row["value"]):
        low, high = row["ci95"] or (None, None)
        model = f", {row['model'].removeprefix('tiny-')}" if models > 1 else ""
        effects.append(Effect(row["instrument"] + model, row["value"], low, high, row["is_control"]))
    forest(effects, axes, rows[0]["metric"], zero=rows[0]["chance"])
    axes.set_title(TITLES.get(truth.split()[0], truth), loc="left")
    return axes


def agreement_figure(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes calibration.png and .svg, a panel a truth; nothing where no instrument was held against one.

    Raises SightlineError when a file cannot be written.
    """
    from matplotlib.figure import Figure

    truths = [kind for kind in TITLES if any(row["truth"].split()[0] == kind for row in document["instruments"])]
    if not truths:
        return []
    lines = {kind: sum(row["truth"].split()[0] == kind for row in document["instruments"]) for kind in truths}
    with look("screen"):
        figure = Figure(figsize=(11, sum(0.7 + 0.2 * count for count in lines.values()) / 2 + 1))
        columns = [truths[0::2], truths[1::2]]
        outer = figure.subfigures(1, len([part for part in columns if part]), squeeze=False)[0]
        for part, kinds in zip(outer, columns, strict=False):
            ratios = [0.7 + 0.2 * lines[kind] for kind in kinds]
            grid = part.subplots(len(kinds), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})
            for axes, kind in zip(grid[:, 0], kinds, strict=True):
                truth_axes(document, axes, kind)
        paths = [folder / f"{NAME}.{kind}" for kind in ("png", "svg")]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                figure.savefig(path, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise SightlineError(
                f"The figure could not be written into {folder} ({error.strerror or error})."
            ) from error
    return paths
