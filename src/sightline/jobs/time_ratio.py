"""How many times the time of the first method another takes, and how far that is from the noise of the clock.

The machine may be busy with something else, so a difference in seconds means nothing without its spread. Methods take
turns: the same items' batches are timed one after the other, and these pairs are what is redrawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.stats import Interval, interval_of, redrawn_totals, strata_of

RESAMPLES = 2000


def time_ratio(
    first: Mapping[str, float], other: Mapping[str, float], is_batched: bool, seed: int = 0
) -> tuple[float | None, Interval | None]:
    """sum(other) / sum(first) over the items that both timed, and its 95% bootstrap interval over batches.

    first, other: seconds by the item's id; a batch's are shared out evenly, so items of one batch have the same. None
    for a ratio of nothing, and for the interval of fewer than three batches, which says nothing of noise.
    """
    ids = [name for name in first if name in other]
    before, after = (sum(side[name] for name in ids) for side in (first, other))
    if not before or not after:
        return None, None
    sums: dict[object, list[float]] = {}
    for name, batch in zip(ids, _batches(ids, first, other, is_batched), strict=True):
        pair = sums.setdefault(batch, [0.0, 0.0])
        pair[0] += first[name]
        pair[1] += other[name]
    if len(sums) < 3:
        return after / before, None
    drawn = redrawn_totals(strata_of([{"": pair} for pair in sums.values()]), seed, RESAMPLES)[""]
    with np.errstate(divide="ignore", invalid="ignore"):
        return after / before, interval_of(drawn[:, 1] / drawn[:, 0])


def _batches(ids: list[str], first: Mapping[str, float], other: Mapping[str, float], is_batched: bool) -> list[object]:
    """Of each item what it was timed with, on either side: items joined by equal seconds are one."""
    if not is_batched:
        return list(ids)
    parents: dict[object, object] = {}

    def root(of: object) -> object:
        while parents.setdefault(of, of) != of:
            of = parents[of]
        return of

    for name in ids:
        parents[root((0, first[name]))] = root((1, other[name]))
    return [root((0, first[name])) for name in ids]
