"""AUROC by ranks, with intervals that redraw whole images: words of one caption are no independent draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval: TypeAlias = "tuple[float, float]"
_CHUNK = 4_000_000
"""Weights that are held at a time."""


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
