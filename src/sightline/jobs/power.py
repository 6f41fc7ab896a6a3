"""Before a run: how many items a difference needs to be found, and what those that are there can find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.compare import count_independent
from sightline.errors import InputError
from sightline.stats import smallest_difference, units_needed

if TYPE_CHECKING:
    from sightline.jobs.benchmark_items import BenchmarkItems

DIFFERING = (0.05, 0.1, 0.2, 0.4)
"""Shares of items that one side alone has right; two greedy methods on one model mostly differ on 5% to 20%."""

POWER = 0.8


@dataclass(frozen=True)
class PowerPlan:
    """What one benchmark can show.

    difference  in accuracy, from 0 to 1, that is to be found
    items       that would be run
    units       how many of them are independent
    needed      by the share of items that one side alone has right: units that find the difference with power 0.8
    smallest    by that share: the smallest difference that the units find, None where they find none
    """

    bench: str
    difference: float
    items: int
    units: int
    needed: dict[float, int | None]
    smallest: dict[float, float | None]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; shares are keys as text."""
        return {
            "bench": self.bench,
            "difference": self.difference,
            "power": POWER,
            "items": self.items,
            "units": self.units,
            "needed": {f"{share:g}": count for share, count in self.needed.items()},
            "smallest": {f"{share:g}": value for share, value in self.smallest.items()},
        }


def plan_power(benches: Sequence[BenchmarkItems], difference: float) -> list[PowerPlan]:
    """For each benchmark, by the sign-flip test at 5% over independent units that count once each, which is McNemar's.

    Raises:
        InputError: for no difference.
    """
    if not 0 < difference < 1:
        raise InputError(f"The difference is {difference:g}: give a share between 0 and 1, as 0.02 for two points.")
    return [_plan(items, difference) for items in benches]


def _plan(items: BenchmarkItems, difference: float) -> PowerPlan:
    units = count_independent(items.bench, items.items)
    needed = {share: units_needed(difference, share, POWER) if share >= difference else None for share in DIFFERING}
    smallest = {share: smallest_difference(units, share, POWER) for share in DIFFERING}
    return PowerPlan(items.name, difference, len(items.items), units, needed, smallest)
