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
    two were measured. On the front: no other method is both better and quicker, a difference in seconds within the
    noise being none.
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
            _times(point, points[0]),
            *((_short(point.prefill), _short(point.cache)) if has_more else ()),
            "front" if point in best else "",
        )
        for point in points
    ]
    return columns, rows


def _times(point: CostPoint, first: CostPoint) -> str:
    """How many times the first method's time, with its interval where there is one."""
    times = point.seconds / first.seconds if point.times is None else point.times
    if point is first or not point.is_spread_wanted:
        return f"{times:.2f}"
    bounds = "too few batches to tell" if point.spread is None else f"{point.spread[0]:.2f} to {point.spread[1]:.2f}"
    return f"{times:.2f} ({bounds})"


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
        times, spread: how many times the first method's time on the same items, and the 95% interval of that.
        is_spread_wanted: whether the document is one in which times have an interval where they can.
    """

    label: str
    value: float
    gain: float
    seconds: float
    prefill: float | None = None
    cache: float | None = None
    times: float | None = None
    spread: tuple[float, float] | None = None
    is_spread_wanted: bool = False


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
            of.get("times_the_first"),
            (1.0, 1.0) if place == 0 else of.get("times_the_first_ci95") and tuple(of["times_the_first_ci95"]),
            "times_the_first" in of,
        )
        for place, (label, of) in enumerate(methods.items())
        if "image" not in label and of.get(name) is not None and of.get("seconds_per_item")
    ]


def front(points: Sequence[CostPoint], cost: str = "seconds") -> list[CostPoint]:
    """Those that no other beats in one of gain and cost (a field of the points) without losing in the other.

    Seconds differ where the intervals of their ratios to the first method's do not meet, in documents that have these;
    of two that do not differ the one with the larger gain beats the other.
    """
    known = [point for point in points if getattr(point, cost) is not None]
    return [point for point in known if not any(_beats(other, point, cost) for other in known if other is not point)]


def _beats(one: CostPoint, other: CostPoint, cost: str) -> bool:
    is_less, is_more = _is_less(one, other, cost), _is_less(other, one, cost)
    return (one.gain >= other.gain and is_less) or (one.gain > other.gain and not is_more)


def _is_less(one: CostPoint, other: CostPoint, cost: str) -> bool:
    if cost == "seconds" and one.is_spread_wanted and other.is_spread_wanted:
        return one.spread is not None and other.spread is not None and one.spread[1] < other.spread[0]
    return bool(getattr(one, cost) < getattr(other, cost))
