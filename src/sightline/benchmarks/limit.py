"""A share of a benchmark: evenly over its groups, in the official order, items scored together kept together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Unit


def first_items(bench: Benchmark, items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` of the items, in their order; None: all. A larger limit has all items of a smaller one.

    Groups (splits, subtasks) take turns, each giving its next unit, so that they are of one size as far as they reach.
    Where a unit alone has more items than the limit, one unit is taken.
    """
    if limit is None or limit >= len(items):
        return list(items)
    blank = {item.id: bench.judge(item, "") for item in items}
    taken: set[str] = set()
    for unit in _in_turns(bench.units(items, blank)):
        if taken and len(taken) + len(unit.ids) > limit:
            break
        taken.update(unit.ids)
        if len(taken) >= limit:
            break
    return [item for item in items if item.id in taken]


def _in_turns(units: Sequence[Unit]) -> Iterator[Unit]:
    queues: dict[str, list[Unit]] = {}
    for unit in units:
        queues.setdefault(unit.stratum, []).append(unit)
    for turn in range(max(map(len, queues.values()), default=0)):
        for queue in queues.values():
            if turn < len(queue):
                yield queue[turn]
