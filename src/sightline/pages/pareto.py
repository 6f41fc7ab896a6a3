"""Gain against cost: a point a method, and the front of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.pages.tables.gains import cost_points, front
from sightline.results.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEHIND = "0.55"
"""The grey of methods that another beats in both."""


COSTS = {
    "cost": ("seconds", "seconds an answer"),
    "prefill": ("prefill", "seconds until the first token"),
    "cache": ("cache", "megabytes of cache an answer"),
}
"""By the name of the figure: what of a method's point it is against, and the axis in words."""


def pareto(document: Mapping[str, Any], axes: Axes, kind: str = "cost") -> Axes:
    """Draws the methods of one score document with their names, those on the front joined. kind: of `COSTS`."""
    name, words = COSTS[kind]
    points = [(point, getattr(point, name)) for point in cost_points(document) if getattr(point, name) is not None]
    best = front([point for point, _ in points], name)
    joined = sorted((cost, point.gain) for point, cost in points if point in best)
    axes.axhline(0.0, color="0.4", linewidth=0.8, linestyle=":")
    axes.plot([cost for cost, _ in joined], [gain for _, gain in joined], color=COLOURS[0], marker="", linewidth=1.0)
    for point, cost in points:
        axes.plot([cost], [point.gain], marker="o", color=COLOURS[0] if point in best else BEHIND)
        axes.annotate(point.label, (cost, point.gain), xytext=(3, 3), textcoords="offset points", fontsize=6)
    axes.set_xlabel(words)
    axes.set_ylabel("gain over the first method")
    return axes
