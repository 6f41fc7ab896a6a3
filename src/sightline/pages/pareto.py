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


def pareto(document: Mapping[str, Any], axes: Axes) -> Axes:
    """Draws the methods of one score document with their names, those on the front joined."""
    points = cost_points(document)
    best = sorted(front(points), key=lambda point: point.seconds)
    axes.axhline(0.0, color="0.4", linewidth=0.8, linestyle=":")
    axes.plot([each.seconds for each in best], [each.gain for each in best], color=COLOURS[0], marker="", linewidth=1.0)
    for point in points:
        axes.plot([point.seconds], [point.gain], marker="o", color=COLOURS[0] if point in best else BEHIND)
        axes.annotate(point.label, (point.seconds, point.gain), xytext=(3, 3), textcoords="offset points", fontsize=6)
    axes.set_xlabel("seconds an answer")
    axes.set_ylabel("gain over the first method")
    return axes
