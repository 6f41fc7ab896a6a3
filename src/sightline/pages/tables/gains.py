"""What gains go with: the yes ratio, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Columns and rows."""


def tilt_table(document: Mapping[str, Any]) -> Cells:
    """A row a compared method: the yes ratio, the gain, and the part that as many blind changes would have brought."""
    columns = ("method", "yes ratio", "gain", "with the yes ratio", "beyond it")
    rows: list[tuple[str, ...]] = []
    for pair in document["paired"]:
        of = pair.get("tilt")
        if of:
            ratio = f"{100 * of['yes_ratio_a']:.1f} to {100 * of['yes_ratio_b']:.1f}"
            parts = (of["gain"], of["with_yes_ratio"], of["gain"] - of["with_yes_ratio"])
            rows.append((pair["b"], ratio, *(f"{100 * part + 0.0:+.1f}" for part in parts)))
    return columns, rows


def cost_table(document: Mapping[str, Any]) -> Cells:
    """A row a method: its gain over the first in the headline, seconds an answer, and whether it is on the front.

    On the front: no other method is both better and quicker.
    """
    points = cost_points(document)
    columns = ("method", str(document["headline"]), "gain", "s/item", "times the first", "")
    best = front(points)
    rows: list[tuple[str, ...]] = [
        (
            point.label,
            f"{point.value:.4f}",
            f"{point.gain:+.4f}",
            f"{point.seconds:.3g}",
            f"{point.seconds / points[0].seconds:.2f}",
            "front" if point in best else "",
        )
        for point in points
    ]
    return columns, rows


@dataclass(frozen=True)
class CostPoint:
    """A method's headline, its gain over the first method (positive: better), and seconds an answer."""

    label: str
    value: float
    gain: float
    seconds: float


def cost_points(document: Mapping[str, Any]) -> list[CostPoint]:
    """Of each method that was timed; none where the first was not."""
    sign = -1 if document["better"] == "smaller" else 1
    name, methods = document["headline"], document["methods"]
    first = next(iter(methods.values())).get(name)
    if first is None or not next(iter(methods.values())).get("seconds_per_item"):
        return []
    return [
        CostPoint(label, of[name], sign * (of[name] - first), of["seconds_per_item"])
        for label, of in methods.items()
        if "image" not in label and of.get(name) is not None and of.get("seconds_per_item")
    ]


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Those that no other beats in one of gain and cost without losing in the other."""
    return [
        point
        for point in points
        if not any(
            (other.gain >= point.gain and other.seconds < point.seconds)
            or (other.gain > point.gain and other.seconds <= point.seconds)
            for other in points
        )
    ]
