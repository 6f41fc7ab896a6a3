"""A forest: one line a method and benchmark, its difference or its score with the 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.pages.pareto import COSTS, pareto
from sightline.results.style import COLOURS, axes_of, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width

CONTROL = "0.55"
"""The grey of controls."""


@dataclass(frozen=True)
class Effect:
    """One line. low, high: the 95% interval, None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None
    is_control: bool = False


def forest(effects: Sequence[Effect], axes: Axes, name: str, zero: float | None = 0.0) -> Axes:
    """Draws the effects, the first at the top. name: of the axis; zero: where a line says that nothing changed."""
    if zero is not None:
        axes.axvline(zero, color="0.4", linewidth=0.8, linestyle=":")
    for place, effect in enumerate(effects):
        colour = CONTROL if effect.is_control else COLOURS[0]
        low, high = (effect.value if bound is None else bound for bound in (effect.low, effect.high))
        axes.plot([low, high], [place, place], color=colour, linestyle="-", marker="", linewidth=1.4)
        axes.plot([effect.value], [place], color=colour, linestyle="", marker="D" if effect.is_control else "o")
    axes.set_yticks(range(len(effects)), [effect.label for effect in effects])
    axes.set_ylim(len(effects) - 0.4, -0.6)
    axes.set_xlabel(name)
    return axes


CONTROLS = ("yes_bias", "cut_off", "prompt tilt")
"""Methods that read nothing better, beside those whose names say so."""


def effects(found: Sequence[dict[str, Any]], metric: str) -> list[Effect]:
    """The lines of a forest: differences to the first method, or scores, with their intervals."""
    lines = []
    for document in found:
        places = [document["model"]] * (len({each["model"] for each in found}) > 1)
        where = [document["bench"], *places]
        if metric == "difference":
            for pair in document["paired"]:
                low, high = pair["ci95"] or (None, None)
                name = ", ".join([pair["b"], *where])
                lines.append(Effect(name, pair["delta"], low, high, is_control(pair["b"])))
            continue
        for label, values in document["methods"].items():
            value = values.get(document["headline"])
            low, high = values.get(f"{document['headline']}_ci95") or (None, None)
            if value is not None:
                lines.append(Effect(", ".join([label, *where]), value, low, high, is_control(label)))
    return lines


def effects_axes(found: Sequence[dict[str, Any]], ax: Any, metric: str, style: Style, width: Width) -> Axes:
    """A forest of `effects` on axes; InputError for another metric, and where there is no difference to draw."""
    if metric not in ("difference", "score", *COSTS):
        raise InputError(f"There is no figure of {metric!r}: give difference, score, cost, prefill or cache.")
    if metric in COSTS:
        with look(style):
            return pareto(found[0], axes_of(ax, width, 0.7), metric)
    lines = effects(found, metric)
    if not lines:
        raise InputError("One method alone has no difference: give metric='score'.")
    with look(style):
        axes = axes_of(ax, width, max(0.35, 0.09 * len(lines) + 0.15))
        name = "difference to the first method" if metric == "difference" else "score"
        return forest(lines, axes, name, 0.0 if metric == "difference" else None)


def is_control(label: str) -> bool:
    """Whether a method, as the user wrote it, is there to be held against: it reads nothing better by its make."""
    name = label.partition(":")[0]
    return name in CONTROLS or name.endswith("_random") or name.startswith("mask_") or "target=text" in label
