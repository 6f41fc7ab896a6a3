"""Figures of `measure` documents, written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
KINDS = ("png", "svg")


def dominance_figures(documents: Mapping[str, dict[str, Any]], folder: Path) -> list[Path]:
    """Writes mdi_by_layer and stages, each as PNG and SVG, into `folder` and returns their paths.

    documents: `measure` documents by the name their line carries. Raises SightlineError when a file cannot be written.
    """
    drawn = {"mdi_by_layer": mdi_by_layer(documents), "stages": stage_bars(documents)}
    paths = [folder / f"{name}.{kind}" for name in drawn for kind in KINDS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            drawn[path.stem].savefig(path, dpi=DPI)
    except OSError as error:
        raise SightlineError(f"The figures could not be written into {folder} ({error.strerror or error}).") from error
    return paths


def mdi_by_layer(documents: Mapping[str, dict[str, Any]]) -> Figure:
    """MDI by layer, a line a document with its 95% interval; dashed, without sinks, where there is one document."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _canvas()
    for name, document in documents.items():
        layers = [layer for layer in document["layers"] if layer["mdi"] is not None]
        places = [layer["layer"] for layer in layers]
        (line,) = axes.plot(places, [layer["mdi"] for layer in layers], marker="o", markersize=4, label=name)
        known = [layer for layer in layers if layer.get("mdi_ci95")]
        low, high = ([layer["mdi_ci95"][side] for layer in known] for side in (0, 1))
        axes.fill_between(
            [layer["layer"] for layer in known], low, high, color=line.get_color(), alpha=0.2, linewidth=0
        )
        if len(documents) == 1:
            rest = [layer for layer in layers if layer["mdi_no_sinks"] is not None]
            axes.plot(
                [layer["layer"] for layer in rest],
                [layer["mdi_no_sinks"] for layer in rest],
                color=line.get_color(),
                linestyle="--",
                label="without sinks",
            )
    _balanced(axes)
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(figure, axes, documents)


def stage_bars(documents: Mapping[str, dict[str, Any]]) -> Figure:
    """MDI of early, middle and late layers, a bar a document, with its 95% interval."""
    figure, axes = _canvas()
    stages = list(next(iter(documents.values()))["stages"])
    width = 0.8 / len(documents)
    for number, (name, document) in enumerate(documents.items()):
        figures = [document["stages"][stage] for stage in stages]
        heights = [stage["mdi"] or 0.0 for stage in figures]
        places = [place + (number - (len(documents) - 1) / 2) * width for place in range(len(stages))]
        bounds = [stage.get("mdi_ci95") or (height, height) for stage, height in zip(figures, heights, strict=True)]
        errors = [
            [max(0.0, height - low) for height, (low, _) in zip(heights, bounds, strict=True)],
            [max(0.0, high - height) for height, (_, high) in zip(heights, bounds, strict=True)],
        ]
        axes.bar(places, heights, width * 0.9, yerr=errors, capsize=3, label=name)
    _balanced(axes)
    layers = [{_layers(document["stages"][stage]["layers"]) for document in documents.values()} for stage in stages]
    same = all(len(names) == 1 for names in layers)
    axes.set_xticks(
        range(len(stages)),
        [f"{stage}\n{min(names)}" if same else stage for stage, names in zip(stages, layers, strict=True)],
    )
    axes.margins(y=0.2)  # room for the legend
    return _finished(figure, axes, documents)


def _layers(numbers: Sequence[int]) -> str:
    """A stage's layers in words, as "layers 3, 4"."""
    if len(numbers) < 5:
        return f"layer{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
    return f"layers {numbers[0]} to {numbers[-1]}"


def _canvas() -> tuple[Figure, Axes]:
    # No pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    return figure, figure.subplots()


def _balanced(axes: Axes) -> None:
    axes.axhline(1.0, color="0.4", linewidth=1, linestyle=":")
    axes.annotate(
        "balanced",
        (1.0, 1.0),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color="0.4",
        annotation_clip=False,
    )


def _finished(figure: Figure, axes: Axes, documents: Mapping[str, dict[str, Any]]) -> Figure:
    axes.set_ylabel("MDI (above 1: text dominates)")
    axes.set_title(_title(documents.values()), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def _title(documents: Iterable[dict[str, Any]]) -> str:
    """How many samples, whose attention, and what the band or the bars' whiskers are, where there are some."""
    documents = list(documents)
    counts = sorted({document["samples"] for document in documents})
    samples = " to ".join(map(str, [counts[0], *counts[1:][-1:]])) + (" sample" if counts == [1] else " samples")
    figures = [figure for document in documents for figure in (*document["layers"], *document["stages"].values())]
    interval = ", 95% interval of the mean" if any(figure.get("mdi_ci95") for figure in figures) else ""
    return f"{samples}, queries {documents[0]['queries']}{interval}"
