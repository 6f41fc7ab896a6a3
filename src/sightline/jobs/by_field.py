"""A benchmark's scores by a field of its items: MMMU-Pro's subjects, POPE's splits, the kind of a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.compare import intervals
from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item, Verdict
    from sightline.jobs.benchmark_items import BenchmarkItems

GROUP = ("group", "split", "subtask", "category")
"""Names of what every item has as its `group`, where its `about` has no field of that name."""


def scores_by(
    items: BenchmarkItems, verdicts: Mapping[str, Mapping[str, Verdict]], field: str, seed: int = 0
) -> dict[str, Any]:
    """{"field", "methods": {method: {value: {"n", every figure with its interval}}}}, values in the items' order.

    Each interval is a bootstrap over the items of that value alone, as those of the whole benchmark are.

    Raises InputError where no item has the field, with those that there are.
    """
    parts: dict[str, list[Item]] = {}
    for item in items.items:
        value = _value(item, field)
        if value is not None:
            parts.setdefault(str(value), []).append(item)
    if not parts:
        known = dict.fromkeys(name for item in items.items for name in item.about)
        raise InputError(f"No item of {items.name} has a field {field!r}; there are {', '.join(['group', *known])}.")
    methods = {
        method: {
            value: {"n": sum(item.id in of for item in part), **_figures(intervals(items.bench, part, of, seed=seed))}
            for value, part in parts.items()
        }
        for method, of in verdicts.items()
    }
    return {"field": field, "methods": methods}


def _value(item: Item, field: str) -> Any:
    if field in item.about:
        return item.about[field]
    if field in ("truth", "answer"):
        return item.truth
    return item.group or None if field in GROUP else None


def _figures(found: Mapping[str, tuple[float | None, tuple[float, float] | None]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, (value, interval) in found.items():
        document |= {name: value, f"{name}_ci95": None if interval is None else list(interval)}
    return document
