"""A forest: one line a method and benchmark, its difference or its score with the 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    from sightline.results.style import COLOURS

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
