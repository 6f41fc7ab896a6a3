"""Two methods on the same items: difference with a paired bootstrap interval, exact McNemar test, flips.

The bootstrap draws units (an item; for MME an image with its questions) with replacement within each stratum (split or
subtask), the same units for both sides, and makes the headline of their sums anew: so it holds for ratios too, such as
CHAIRi. McNemar's test asks of the items that are right on one side alone whether both sides have as many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Unit, Verdict

    Judgements = Mapping[str, Verdict]

RESAMPLES = 2000

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """What changes from method a to method b, over the items that both answered.

    delta     headline of b minus that of a; None where one of them is of nothing
    ci95      95% percentile interval of delta by the paired bootstrap; None with fewer than two units
    p_value   two-sided, by the exact McNemar test on right and wrong; 1 where no item differs
    a_only    ids of the items that are right under a and wrong under b, in the benchmark's order
    b_only    the other way round
    n         items that both answered
    missing   items that only one of them answered, which are left out
    figures   (delta, interval) of every figure that the benchmark tells intervals of, by its name
    """

    delta: float | None
    ci95: Interval
    p_value: float
    a_only: tuple[str, ...]
    b_only: tuple[str, ...]
    n: int
    missing: int
    figures: Mapping[str, tuple[float | None, Interval]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the `eval` document spells it; `flipped` lists the items that `flips` counts."""
        return {
            "delta": self.delta,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "p_value": self.p_value,
            "flips": [len(self.a_only), len(self.b_only)],
            "flipped": {"a_only": list(self.a_only), "b_only": list(self.b_only)},
            "n": self.n,
            "missing": self.missing,
            "figures": {
                name: {"delta": delta, "ci95": None if interval is None else list(interval)}
                for name, (delta, interval) in self.figures.items()
            },
        }


def compare(
    bench: Benchmark,
    items: Sequence[Item],
    a: Judgements,
    b: Judgements,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The comparison of two methods by their judgements, which may lack items; seed: of the bootstrap."""
    known = {item.id for item in items}
    both = [item for item in items if item.id in a and item.id in b]
    a_only = tuple(item.id for item in both if a[item.id].right and not b[item.id].right)
    b_only = tuple(item.id for item in both if b[item.id].right and not a[item.id].right)
    ids = {item.id for item in both}
    pairs = _pairs(
        bench.units(both, {name: a[name] for name in ids}), bench.units(both, {name: b[name] for name in ids})
    )
    strata = _strata([unit for unit, _ in pairs], [(*first.sums, *second.sums) for first, second in pairs])
    width = len(pairs[0][0].sums) if pairs else 0

    def differences(totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        first = bench.figures({name: total[..., :width] for name, total in totals.items()})
        second = bench.figures({name: total[..., width:] for name, total in totals.items()})
        return {name: second[name] - first[name] for name in first}

    figures = _with_intervals(differences, strata, seed, resamples)
    delta, ci95 = figures.get(bench.headline, (None, None))
    missing = len(known & (set(a) | set(b))) - len(both)
    return Comparison(delta, ci95, mcnemar(len(a_only), len(b_only)), a_only, b_only, len(both), missing, figures)


def intervals(
    bench: Benchmark, items: Sequence[Item], judgements: Judgements, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, tuple[float | None, Interval]]:
    """The benchmark's figures by name, the headline first, each with its 95% bootstrap interval.

    None for a figure of nothing, and for the interval of a single unit; empty without an answer.
    """
    units = bench.units([item for item in items if item.id in judgements], judgements)
    return _with_intervals(bench.figures, _strata(units, [unit.sums for unit in units]), seed, resamples)


def mcnemar(a_only: int, b_only: int) -> float:
    """The two-sided exact p value for so many items that are right on one side alone."""
    from scipy.stats import binomtest

    if a_only + b_only == 0:
        return 1.0
    return float(binomtest(a_only, a_only + b_only, 0.5).pvalue)


def _pairs(a: Sequence[Unit], b: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    others = {unit.ids: unit for unit in b}
    return [(unit, others[unit.ids]) for unit in a if unit.ids in others]


Strata = dict[str, tuple[np.ndarray, np.ndarray]]
"""By name: the different sums [kinds, sums] that its units have, and how many units have each [kinds]."""


def _strata(units: Sequence[Unit], sums: Sequence[Sequence[float]]) -> Strata:
    by_name: dict[str, list[Sequence[float]]] = {}
    for unit, of in zip(units, sums, strict=True):
        by_name.setdefault(unit.stratum, []).append(of)
    found = {}
    for name, rows in by_name.items():
        kinds, counts = np.unique(np.asarray(rows, dtype=float), axis=0, return_counts=True)
        found[name] = kinds, counts
    return found


def _with_intervals(
    figures: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]], strata: Strata, seed: int, resamples: int
) -> dict[str, tuple[float | None, Interval]]:
    if not strata:
        return {}
    is_single = sum(int(counts.sum()) for _, counts in strata.values()) < 2
    with np.errstate(divide="ignore", invalid="ignore"):
        values = figures({name: counts @ kinds for name, (kinds, counts) in strata.items()})
        drawn = {} if is_single else figures(_redrawn(strata, seed, resamples))
    found: dict[str, tuple[float | None, Interval]] = {}
    for name, value in values.items():
        is_known = bool(np.isfinite(value))
        found[name] = (float(value), _interval(drawn.get(name))) if is_known else (None, None)
    return found


def _interval(drawn: np.ndarray | None) -> Interval:
    known = np.empty(0) if drawn is None else drawn[np.isfinite(drawn)]  # some may have had nothing to divide by
    if not len(known):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _redrawn(strata: Strata, seed: int, resamples: int) -> dict[str, np.ndarray]:
    """Totals [resamples, sums] by stratum.

    Drawing as many units as there are, with replacement, draws their different kinds multinomially: a right or wrong
    answer on either side makes four kinds, however many items there are.
    """
    rng = np.random.default_rng(seed)
    return {
        name: rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples) @ kinds
        for name, (kinds, counts) in sorted(strata.items())
    }
