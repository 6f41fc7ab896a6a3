"""Intervals by redrawing what is independent, the exact sign-flip test, Holm's adjustment, AUROC, and how many items a
difference needs. Words of one caption, and questions that stand in several splits, are no independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval: TypeAlias = "tuple[float, float]"
_CHUNK = 4_000_000
"""Weights that are held at a time."""

Strata: TypeAlias = "dict[tuple[str, ...], tuple[NDArray[np.float64], NDArray[np.int_]]]"
"""By the names of the strata that a unit has items in: the different sums that such units have, [kinds, strata, sums],
and how many units have each, [kinds].
"""


_FINE = 5040
"""Steps in the largest change, by which changes of whole numbers up to 10 are distinguished exactly."""

_CELLS = 32_768, 262_144
"""Steps that all changes together have where they are no whole numbers: 50 a unit, but at least and at most so many."""


def sign_flip(changes: ArrayLike, counts: ArrayLike | None = None) -> float:
    """The two-sided exact p value of a sum of changes, each of which might as well have the other sign.

    p = P(|sum_u s_u d_u| >= |sum_u d_u|), s_u = 1 or -1 with chance 1/2 each: Fisher's test of paired differences (The
    Design of Experiments, 1935, section 21). It is McNemar's exact test where all changes but those of 0 are of one
    size, and judges the sum, and so the mean, where they are not. The distribution of the sum is convolved (Pagano and
    Tritchler 1983, JASA 78); changes that are no multiples of a common step are rounded.

    changes: [kinds], of one independent unit each, or of as many as counts: [kinds] says. 1 where nothing changes.
    """
    given = np.asarray(changes, dtype=float)
    often = np.ones(len(given), int) if counts is None else np.asarray(counts, dtype=int)
    largest = float(np.abs(given).max(initial=0.0))
    if not largest:
        return 1.0
    steps = _whole(given / largest, often)
    sizes, place = np.unique(np.abs(steps), return_inverse=True)
    totals = np.bincount(place, often).astype(int)
    chances = _chances([(int(size), int(count)) for size, count in zip(sizes, totals, strict=True) if size])
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    is_as_large = np.abs(sums) >= abs(int(steps @ often))
    # Chances that are all of them add up to 1 but for rounding.
    return 1.0 if chances[~is_as_large].sum() == 0 else min(1.0, float(chances[is_as_large].sum()))


def _whole(shares: NDArray[np.float64], counts: NDArray[np.int_]) -> NDArray[np.int_]:
    """Changes from -1 to 1 as whole steps."""
    steps = np.rint(shares * _FINE).astype(int)
    steps //= np.gcd.reduce(steps)
    is_whole = float(np.abs(shares * _FINE - np.rint(shares * _FINE)).max()) < 1e-3
    units = int(counts[steps != 0].sum())
    cells = min(max(_CELLS[0], 50 * units), _CELLS[1])
    if is_whole and np.abs(steps) @ counts <= max(cells, 10 * units):
        return steps
    finest = max(10.0, cells / float(np.abs(shares) @ counts))
    return np.rint(shares * finest).astype(int)


def _chances(kinds: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Of each sum from 0, [sums], where each of so many units adds its size or nothing; kinds: (size, units)."""
    from scipy.stats import binom

    found = np.ones(1)
    for size, count in sorted(kinds, key=lambda kind: -kind[1]):
        longer = np.zeros(len(found) + size * count)
        for often, chance in enumerate(binom.pmf(np.arange(count + 1), count, 0.5)):
            if chance:
                longer[often * size : often * size + len(found)] += chance * found
        found = longer
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p value adjusted for all of them: below 0.05 where Holm's step-down test rejects at 5% in all together.

    The k-th smallest of m becomes the largest of (m - j + 1) p_j over j <= k, at most 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation over all entries of two arrays alike; None where one of them does not vary."""
    from scipy.stats import rankdata

    one, other = (rankdata(np.asarray(values, dtype=float), axis=None) for values in (a, b))
    if not one.std() or not other.std():
        return None
    found: NDArray[np.float64] = np.corrcoef(one, other)
    return float(found[0, 1])


def strata_of(units: Sequence[Mapping[str, Sequence[float]]]) -> Strata:
    """Units, each as its sums by stratum, counted by their kinds."""
    by_names: dict[tuple[str, ...], list[list[Sequence[float]]]] = {}
    for unit in units:
        names = tuple(sorted(unit))
        by_names.setdefault(names, []).append([unit[name] for name in names])
    found: Strata = {}
    for names, rows in by_names.items():
        kinds, counts = np.unique(np.asarray(rows, dtype=float), axis=0, return_counts=True)
        found[names] = kinds, counts
    return found


def totals_of(strata: Strata) -> dict[str, NDArray[np.float64]]:
    """The sums of each stratum over all units, [sums]."""
    return _by_stratum(strata, {names: counts[None] for names, (_, counts) in strata.items()}, 0)


def redrawn_totals(strata: Strata, seed: int, resamples: int) -> dict[str, NDArray[np.float64]]:
    """The sums of each stratum over units drawn with replacement, [resamples, sums].

    Drawing as many units as there are, with replacement, draws their different kinds multinomially: a right or wrong
    answer on either side makes four kinds, however many items there are. Units that have items in the same strata are
    redrawn among themselves, so that every stratum keeps about its size. Of n units n - 1 are drawn, each counting
    n / (n - 1): n draws would vary too little where n is small (Rao and Wu 1988, JASA 83).
    """
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for names, (_, counts) in sorted(strata.items(), key=lambda entry: entry[0]):
        units = int(counts.sum())
        draws = max(units - 1, 1)
        found = rng.multinomial(draws, counts / units, size=resamples)
        drawn[names] = found.astype(np.float64) * np.float64(units / draws)
    return _by_stratum(strata, drawn, None)


def _by_stratum(
    strata: Strata, counts: Mapping[tuple[str, ...], NDArray[np.int_] | NDArray[np.float64]], row: int | None
) -> dict[str, NDArray[np.float64]]:
    totals: dict[str, NDArray[np.float64]] = {}
    for names, drawn in counts.items():
        sums = np.einsum("rk,ksw->rsw", drawn.astype(float), strata[names][0])
        for place, name in enumerate(names):
            part = sums[:, place] if row is None else sums[row, place]
            totals[name] = totals[name] + part if name in totals else part
    return totals


def interval_of(drawn: NDArray[np.float64] | None) -> Interval | None:
    """The 95% percentile interval of the finite ones; some resamples may have had nothing to divide by."""
    known = np.empty(0) if drawn is None else drawn[np.isfinite(drawn)]
    if not len(known):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def mean_interval(values: NDArray[np.float64], resamples: int, seed: int = 0) -> Interval:
    """The 95% percentile interval of the mean of values that are drawn anew, one by one."""
    return mean_intervals(values[:, None], resamples, seed)[0]


def mean_intervals(columns: NDArray[np.float64], resamples: int, seed: int = 0) -> list[Interval]:
    """Of each column, [rows, columns], as `mean_interval`; the same rows are drawn for all, which costs one draw."""
    rng, count = np.random.default_rng(seed), len(columns)
    means = np.empty((resamples, columns.shape[1]))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        often = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = often @ columns / count
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return [(float(one), float(other)) for one, other in zip(low, high, strict=True)]


def units_needed(difference: float, differing: float, power: float = 0.8, size: float = 0.05) -> int:
    """How many independent items, each counted once, the sign-flip test (then McNemar's) needs to find a difference in
    accuracy with this power.

    difference: |d|, from 0 to 1. differing: the share p of items that are right on one side alone, at least |d|.
    n = ((z_{1 - size/2} sqrt(p) + z_power sqrt(p - d^2)) / d)^2 (Connor 1987, Biometrics 43).
    """
    from scipy.stats import norm

    gap, share = abs(difference), max(differing, abs(difference))
    spread = norm.ppf(1 - size / 2) * math.sqrt(share) + norm.ppf(power) * math.sqrt(max(share - gap * gap, 0.0))
    return math.ceil((spread / gap) ** 2)


def smallest_difference(units: int, differing: float, power: float = 0.8, size: float = 0.05) -> float | None:
    """The smallest difference in accuracy that so many items find with this power; None where none is found."""
    if units < 1 or units_needed(differing, differing, power, size) > units:
        return None
    low, high = 0.0, differing
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if units_needed(middle, differing, power, size) <= units else (middle, high)
    return high


def auroc(values: ArrayLike, labels: ArrayLike) -> float:
    """The chance that a word labelled 1 has a larger value than one labelled 0, a tie counting half.

    values: [words]. labels: [words], 1 or 0. NaN where one of the labels does not occur.
    """
    found = np.asarray(values, dtype=float)
    return float(_weighted(found, np.asarray(labels) > 0, np.ones((1, len(found))))[0])


def auroc_interval(
    values: ArrayLike, labels: ArrayLike, groups: ArrayLike, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The 95% percentile interval; groups: [words], whole numbers from 0, what is redrawn as one (the image)."""
    found = [
        _weighted(np.asarray(values, dtype=float), np.asarray(labels) > 0, weights)
        for weights in _redrawn(np.asarray(groups), resamples, seed)
    ]
    return _percentiles(np.concatenate(found))


def auroc_difference(
    values: ArrayLike, others: ArrayLike, labels: ArrayLike, groups: ArrayLike, resamples: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """AUROC of `values` minus that of `others`, and its interval over the same redrawn images."""
    truth = np.asarray(labels) > 0
    ours, theirs = np.asarray(values, dtype=float), np.asarray(others, dtype=float)
    found = [
        _weighted(ours, truth, weights) - _weighted(theirs, truth, weights)
        for weights in _redrawn(np.asarray(groups), resamples, seed)
    ]
    return auroc(ours, truth) - auroc(theirs, truth), _percentiles(np.concatenate(found))


def _redrawn(groups: NDArray[np.int_], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """[resamples, words], in chunks: how often each word is drawn."""
    rng, count = np.random.default_rng(seed), int(groups.max()) + 1
    chunk = max(1, _CHUNK // max(len(groups), count))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)
        yield drawn[:, groups].astype(float)


def _weighted(
    values: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUROC of each row of weights [rows, words]."""
    order = np.argsort(values, kind="stable")
    values, truth, weights = values[order], truth[order], weights[:, order]
    first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])  # equal values are one step
    right = np.add.reduceat(weights * truth, first, axis=1)
    wrong = np.add.reduceat(weights * ~truth, first, axis=1)
    won = (right * (np.cumsum(wrong, axis=1) - wrong / 2)).sum(1)
    pairs = right.sum(1) * wrong.sum(1)
    found: NDArray[np.float64] = np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return found


def _percentiles(found: NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
