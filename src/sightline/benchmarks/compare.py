"""Two methods on the same items: difference with a paired bootstrap interval, exact sign-flip test, flips.

The bootstrap draws what is independent (an item; for MME an image with its questions; for POPE one question about one
image, which may stand in all three splits) with replacement, the same for both sides, and makes the headline of their
sums anew: so it holds for ratios too, such as CHAIRi. The sign-flip test exchanges the two sides of each unit, and asks
how often the headline's difference would be as large: it judges the same difference, in which a question that stands in
three splits counts three times, as one unit. Where each unit counts once it is McNemar's exact test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.stats import Strata, holm, interval_of, redrawn_totals, sign_flip, strata_of, totals_of

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Unit, Verdict

    Judgements = Mapping[str, Verdict]

RESAMPLES = 2000

_STEP = 1e-5
"""Of a stratum's largest sum: how far the headline is followed to either side."""

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """What changes from method a to method b, over the items that both answered.

    delta     headline of b minus that of a; None where one of them is of nothing
    ci95      95% percentile interval of delta by the paired bootstrap; None with fewer than two units
    p_value   of delta, two-sided, by the exact sign-flip test over independent units; 1 where none differs, or delta is
              None
    a_only    ids of the items that are right under a and wrong under b, in the benchmark's order
    b_only    the other way round
    n         items that both answered
    missing   items that only one of them answered, which are left out
    units     how many independent units the items make
    figures   (delta, interval) of every figure that the benchmark gives intervals of, by its name
    """

    delta: float | None
    ci95: Interval
    p_value: float
    a_only: tuple[str, ...]
    b_only: tuple[str, ...]
    n: int
    missing: int
    units: int = 0
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
            "units": self.units,
            "figures": {
                name: {"delta": delta, "ci95": None if interval is None else list(interval)}
                for name, (delta, interval) in self.figures.items()
            },
        }


def compare_verdicts(
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
    first, second = ({item.id: side[item.id] for item in both} for side in (a, b))
    strata, width = _both_sides(bench, both, first, second)
    figures = _paired(bench, strata, width, seed, resamples)
    equal = bench.equalised(both, first, second)
    if equal is not None:
        beside = _paired(bench, *_both_sides(bench, both, *equal), seed, resamples)
        figures |= {f"{name}_{bench.equal_in}": found for name, found in beside.items()}
    delta, ci95 = figures.get(bench.headline, (None, None))
    missing = len(known & (set(a) | set(b))) - len(both)
    p_value = 1.0 if delta is None else _p_value(bench, strata, width)
    units = sum(int(counts.sum()) for _, counts in strata.values())
    return Comparison(delta, ci95, p_value, a_only, b_only, len(both), missing, units, figures)


def _both_sides(bench: Benchmark, items: Sequence[Item], a: Judgements, b: Judgements) -> tuple[Strata, int]:
    """The units' sums of a and behind them those of b, and how many sums a side has."""
    others = {unit.ids: unit for unit in bench.units(items, b)}
    pairs = [(unit, others[unit.ids]) for unit in bench.units(items, a) if unit.ids in others]
    width = len(pairs[0][0].sums) if pairs else 0
    return _strata([unit for unit, _ in pairs], [(*first.sums, *second.sums) for first, second in pairs]), width


def _paired(
    bench: Benchmark, strata: Strata, width: int, seed: int, resamples: int
) -> dict[str, tuple[float | None, Interval]]:
    """The differences of all figures, each with its interval."""

    def differences(totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        first = bench.figures({name: total[..., :width] for name, total in totals.items()})
        second = bench.figures({name: total[..., width:] for name, total in totals.items()})
        return {name: second[name] - first[name] for name in first}

    return _with_intervals(differences, strata, seed, resamples)


def _p_value(bench: Benchmark, strata: Strata, width: int) -> float:
    """Of the headline's difference, by what each unit adds to it.

    A unit adds sum_k h_k (b_k - a_k), h the headline's slope by each sum, taken at the mean of both sides' totals,
    which stays where a unit's sides are exchanged. These add up to the difference where both sides divide by the same,
    as by the number of items, and have its sign where they divide one sum by another.
    """
    slopes = _slopes(bench, {name: (of[:width] + of[width:]) / 2 for name, of in totals_of(strata).items()})
    changes, counts = [], []
    for names, (kinds, often) in strata.items():
        weights = np.stack([slopes[name] for name in names])
        changes.append(((kinds[..., width:] - kinds[..., :width]) * weights).sum(axis=(1, 2)))
        counts.append(often)
    return sign_flip(np.concatenate(changes), np.concatenate(counts))


def _slopes(bench: Benchmark, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The headline's slope by each sum of each stratum, [sums], by central differences; 0 where there is none."""
    found = {}
    for name, of in totals.items():
        step = _STEP * max(float(np.abs(of).max()), 1.0)
        moved = step * np.concatenate([np.eye(len(of)), -np.eye(len(of))])
        around = {other: np.tile(total, (2 * len(of), 1)) for other, total in totals.items()}
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead, behind = np.split(bench.figures(around | {name: of + moved})[bench.headline], 2)
        found[name] = np.nan_to_num((ahead - behind) / (2 * step), posinf=0.0, neginf=0.0)
    return found


def adjust(documents: Sequence[dict[str, Any]]) -> None:
    """Adds Holm's `p_holm` to every entry of `paired`, over all methods, models and benchmarks of these documents."""
    entries = [entry for document in documents for entry in document["paired"]]
    for entry, p_value in zip(entries, holm([entry["p_value"] for entry in entries]), strict=True):
        entry["p_holm"] = p_value


def intervals(
    bench: Benchmark, items: Sequence[Item], judgements: Judgements, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, tuple[float | None, Interval]]:
    """The benchmark's figures by name, the headline first, each with its 95% bootstrap interval.

    None for a figure of nothing, and for the interval of a single unit; empty without an answer.
    """
    units = bench.units([item for item in items if item.id in judgements], judgements)
    return _with_intervals(bench.figures, _strata(units, [unit.sums for unit in units]), seed, resamples)


def count_independent(bench: Benchmark, items: Sequence[Item]) -> int:
    """How many independent units the items make."""
    return len(independent_units(bench, items))


def independent_units(bench: Benchmark, items: Sequence[Item]) -> list[tuple[str, ...]]:
    """The ids of the items of each independent unit, as all questions about one image."""
    blank = {item.id: bench.judge(item, "") for item in items}
    return _independent(bench.units(items, blank))


def _independent(units: Sequence[Unit]) -> list[tuple[str, ...]]:
    """The ids of the items of each independent unit."""
    found: dict[object, tuple[str, ...]] = {}
    for number, unit in enumerate(units):
        name: object = unit.key or number
        found[name] = found.get(name, ()) + unit.ids
    return list(found.values())


def _strata(units: Sequence[Unit], sums: Sequence[Sequence[float]]) -> Strata:
    """Units of one key are one."""
    whole: dict[object, dict[str, Sequence[float]]] = {}
    for number, (unit, of) in enumerate(zip(units, sums, strict=True)):
        parts = whole.setdefault(unit.key or number, {})
        before = parts.get(unit.stratum)
        parts[unit.stratum] = of if before is None else [x + y for x, y in zip(before, of, strict=True)]
    return strata_of(list(whole.values()))


def _with_intervals(
    figures: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]], strata: Strata, seed: int, resamples: int
) -> dict[str, tuple[float | None, Interval]]:
    if not strata:
        return {}
    is_single = all(int(counts.sum()) < 2 for _, counts in strata.values())  # nothing to draw from anywhere
    with np.errstate(divide="ignore", invalid="ignore"):
        values = figures(totals_of(strata))
        drawn = {} if is_single else figures(redrawn_totals(strata, seed, resamples))
    found: dict[str, tuple[float | None, Interval]] = {}
    for name, value in values.items():
        is_known = bool(np.isfinite(value))
        found[name] = (float(value), interval_of(drawn.get(name))) if is_known else (None, None)
    return found
