"""Two sides of the same entries: differences with intervals, p values adjusted for all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.results.result import frame_of
from sightline.stats import holm, mean_interval, sign_flip

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000


def adjusted(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows with Holm's adjustment over all of them."""
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return frame_of(rows)


def paired(before: NDArray[np.float64], after: NDArray[np.float64], seed: int = 0) -> dict[str, Any]:
    """n, both means, the difference (after - before), its 95% bootstrap interval, and its exact sign-flip p value.

    Without an interval where there is nothing to draw anew, as of one entry.
    """
    change = after - before
    low, high = mean_interval(change, RESAMPLES, seed) if len(set(change.tolist())) > 1 else (None, None)
    means = {"n": len(change), "mean_a": float(before.mean()), "mean_b": float(after.mean())}
    interval = {"difference": float(change.mean()), "ci_low": low, "ci_high": high}
    return means | interval | {"p_value": sign_flip(change)}


Figures = Sequence[tuple[dict[str, Any], float | None]]
"""Each with what it is of."""


def differences(names: tuple[str, str], first: Figures, second: Figures) -> pd.DataFrame:
    """A row a figure that both have, by what it is of: a, b, value_a, value_b and the difference (b - a).

    For figures of one run each, which have no interval.
    """
    theirs = {tuple(about.items()): value for about, value in second}
    rows: list[dict[str, Any]] = []
    for about, value in first:
        other = theirs.get(tuple(about.items()))
        if value is not None and other is not None:
            figures = {"value_a": value, "value_b": other, "difference": other - value}
            rows.append({"a": names[0], "b": names[1], **about, **figures})
    return frame_of(rows)
