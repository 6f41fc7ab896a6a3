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
    """A row a method: its gain over the first in the headline, what it costs, and whether it is on the front.

    Costs of an answer: seconds, those until its first token (prefill), and what the caches hold at its end; where these
    two were measured. On the front: no other method is both better and quicker.
    """
    points = cost_points(document)
    has_more = any(point.prefill is not None or point.cache is not None for point in points)
    more = ("prefill s", "cache MB") if has_more else ()
    columns = ("method", str(document["headline"]), "gain", "s/item", "times the first", *more, "")
    best = front(points)
    rows: list[tuple[str, ...]] = [
        (
            point.label,
            f"{point.value:.4f}",
            f"{point.gain:+.4f}",
            f"{point.seconds:.3g}",
            f"{point.seconds / points[0].seconds:.2f}",
            *((_short(point.prefill), _short(point.cache)) if has_more else ()),
            "front" if point in best else "",
        )
        for point in points
    ]
    return columns, rows


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


@dataclass(frozen=True)
class CostPoint:
    """A method's headline, its gain over the first method (positive: better), and what an answer costs.

    Attributes:
        label: of the method.
        value, gain: of the headline.
        seconds: of an answer, by the clock.
        prefill: seconds until its first token.
        cache: megabytes in the caches at its end.
    """

    label: str
    value: float
    gain: float
    seconds: float
    prefill: float | None = None
    cache: float | None = None


def cost_points(document: Mapping[str, Any]) -> list[CostPoint]:
    """Of each method that was timed; none where the first was not."""
    sign = -1 if document["better"] == "smaller" else 1
    name, methods = document["headline"], document["methods"]
    first = next(iter(methods.values())).get(name)
    if first is None or not next(iter(methods.values())).get("seconds_per_item"):
        return []
    return [
        CostPoint(
            label,
            of[name],
            sign * (of[name] - first) + 0.0,
            of["seconds_per_item"],
            of.get("prefill_seconds_per_item"),
            None if of.get("cache_bytes_per_item") is None else of["cache_bytes_per_item"] / 1e6,
        )
        for label, of in methods.items()
        if "image" not in label and of.get(name) is not None and of.get("seconds_per_item")
    ]


def front(points: Sequence[CostPoint], cost: str = "seconds") -> list[CostPoint]:
    """Those that no other beats in one of gain and cost (a field of the points) without losing in the other."""
    known = [(point, getattr(point, cost)) for point in points if getattr(point, cost) is not None]
    return [
        point
        for point, own in known
        if not any(
            (other.gain >= point.gain and theirs < own) or (other.gain > point.gain and theirs <= own)
            for other, theirs in known
        )
    ]
