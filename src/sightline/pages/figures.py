"""Figures of `measure` documents: an index by layer and by stage, in the look of `sightline.results.style`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError, SightlineError
from sightline.results.style import axes_of, distinct, look, striped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
KINDS = ("png", "svg")

BALANCED = {"mdi": 1.0, "mdi_no_sinks": 1.0, "aei": 1.0, "aei_no_sinks": 1.0}
"""The value of an index at which text and image draw alike."""

_NAMES = {"mdi": "MDI (above 1: text dominates)", "aei": "AEI of text", "mdi_no_sinks": "MDI without sinks"}


def dominance_figures(documents: Mapping[str, dict[str, Any]], folder: Path) -> list[Path]:
    """Writes mdi_by_layer and stages, each as PNG and SVG, into `folder` and returns their paths.

    documents: `measure` documents by the name their line carries. Raises SightlineError when a file cannot be written.
    """
    drawn = {"mdi_by_layer": mdi_by_layer(documents), "stages": stage_bars(documents)}
    paths = [folder / f"{name}.{kind}" for name in drawn for kind in KINDS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            with look("screen"):
                drawn[path.stem].savefig(path, dpi=DPI)
    except OSError as error:
        raise SightlineError(f"The figures could not be written into {folder} ({error.strerror or error}).") from error
    return paths


def mdi_by_layer(documents: Mapping[str, dict[str, Any]]) -> Figure:
    """MDI by layer for the screen."""
    with look("screen"):
        return by_layer(documents, axes_of(None, "page", 0.6)).figure  # type: ignore[return-value]


def stage_bars(documents: Mapping[str, dict[str, Any]]) -> Figure:
    """MDI by stage for the screen."""
    with look("screen"):
        return by_stage(documents, axes_of(None, "page", 0.6)).figure  # type: ignore[return-value]


def by_layer(documents: Mapping[str, dict[str, Any]], axes: Axes, metric: str = "mdi") -> Axes:
    """An index by layer, a line a document with its 95% interval; dashed, without sinks, where one document is drawn.

    Raises:
        InputError: for an index that the documents have not.
    """
    from matplotlib.ticker import MaxNLocator

    for (name, document), form in zip(documents.items(), distinct(), strict=False):
        _require(metric, document["layers"][0])
        layers = [layer for layer in document["layers"] if layer[metric] is not None]
        places = [layer["layer"] for layer in layers]
        axes.plot(places, [layer[metric] for layer in layers], label=name, **form)
        known = [layer for layer in layers if layer.get(f"{metric}_ci95")]
        low, high = ([layer[f"{metric}_ci95"][side] for layer in known] for side in (0, 1))
        axes.fill_between([layer["layer"] for layer in known], low, high, color=form["color"], alpha=0.2, linewidth=0)
        rest = [layer for layer in layers if layer.get(f"{metric}_no_sinks") is not None]
        if len(documents) == 1 and rest:
            axes.plot(
                [layer["layer"] for layer in rest],
                [layer[f"{metric}_no_sinks"] for layer in rest],
                color=form["color"],
                linestyle="--",
                marker="",
                label="without sinks",
            )
    _balanced(axes, metric)
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(axes, documents, metric)


def by_stage(documents: Mapping[str, dict[str, Any]], axes: Axes, metric: str = "mdi") -> Axes:
    """An index of early, middle and late layers, a bar a document, with its 95% interval.

    Raises:
        InputError: for an index that the documents have not.
    """
    stages = list(next(iter(documents.values()))["stages"])
    width = 0.8 / len(documents)
    for number, ((name, document), form) in enumerate(zip(documents.items(), striped(), strict=False)):
        figures = [document["stages"][stage] for stage in stages]
        _require(metric, figures[0])
        heights = [stage[metric] or 0.0 for stage in figures]
        places = [place + (number - (len(documents) - 1) / 2) * width for place in range(len(stages))]
        intervals = [stage.get(f"{metric}_ci95") for stage in figures]
        bounds = [found or (height, height) for found, height in zip(intervals, heights, strict=True)]
        errors = [
            [max(0.0, height - low) for height, (low, _) in zip(heights, bounds, strict=True)],
            [max(0.0, high - height) for height, (_, high) in zip(heights, bounds, strict=True)],
        ]
        axes.bar(places, heights, width * 0.9, yerr=errors, capsize=2, label=name, **form)
    _balanced(axes, metric)
    layers = [{_layers(document["stages"][stage]["layers"]) for document in documents.values()} for stage in stages]
    same = all(len(names) == 1 for names in layers)
    axes.set_xticks(
        range(len(stages)),
        [f"{stage}\n{min(names)}" if same else stage for stage, names in zip(stages, layers, strict=True)],
    )
    axes.margins(y=0.1 + 0.13 * len(documents))  # room for the legend
    return _finished(axes, documents, metric)


def _require(metric: str, figures: Mapping[str, Any]) -> None:
    if metric not in figures:
        known = [name for name in figures if f"{name}_ci95" in figures]
        raise InputError(f"There is no index {metric!r} to draw: give one of {', '.join(known)}.")


def _layers(numbers: Sequence[int]) -> str:
    """A stage's layers in words, as "layers 3, 4"."""
    if len(numbers) < 5:
        return f"layer{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
    return f"layers {numbers[0]} to {numbers[-1]}"


def _balanced(axes: Axes, metric: str) -> None:
    if metric not in BALANCED:
        return
    axes.axhline(BALANCED[metric], color="0.4", linewidth=1, linestyle=":", marker="")
    axes.annotate(
        "balanced",
        (1.0, BALANCED[metric]),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
        color="0.4",
        annotation_clip=False,
    )


def _finished(axes: Axes, documents: Mapping[str, dict[str, Any]], metric: str) -> Axes:
    axes.set_ylabel(_NAMES.get(metric, metric.replace("_", " ")))
    axes.set_title(_title(documents.values(), metric))
    axes.legend(loc="best")
    return axes


def _title(documents: Iterable[dict[str, Any]], metric: str) -> str:
    """How many samples, whose attention, and what the band or the bars' whiskers are, where there are some."""
    documents = list(documents)
    counts = sorted({document["samples"] for document in documents})
    samples = " to ".join(map(str, [counts[0], *counts[1:][-1:]])) + (" sample" if counts == [1] else " samples")
    figures = [figure for document in documents for figure in (*document["layers"], *document["stages"].values())]
    interval = ", 95% intervals" if any(figure.get(f"{metric}_ci95") for figure in figures) else ""
    return f"{samples}, queries {documents[0]['queries']}{interval}"
