"""How far an estimate of causal impact agrees with cuts that are made exactly, on a sample of the sources."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from torch import Tensor

from sightline.knockout.reader import ImpactReader
from sightline.stats import rank_correlation

FEWEST = 16
"""Sources in a sample at least."""

WHOLE = 256
"""Edges of a map up to which all of it is cut."""

PASSES = 2
"""Plain passes that the exact cuts of a larger map may take, about."""


def sampled(sources: int, layers: int, seed: int) -> list[int]:
    """Which sources are cut exactly, in all layers: L layers by n sources are about n L / 2 rows of a whole pass."""
    if sources * layers <= WHOLE:
        return list(range(sources))
    count = min(sources, max(FEWEST, round(2 * PASSES * sources / layers)))
    return sorted(Random(seed).sample(range(sources), count))


def agreement(
    reader: ImpactReader,
    maps: dict[str, Tensor],
    groups: Sequence[Sequence[int]],
    layers: Sequence[int],
    window: int,
    target: int | None,
    seed: int,
) -> dict[str, Any]:
    """{"by", "edges", "of", "rank_correlation", "correlation", "slope"} of the log-probability's changes.

    rank_correlation: Spearman's; correlation: Pearson's; slope: of the exact on the estimated ones through zero. None
    where nothing varies.
    """
    chosen = sampled(len(groups), len(layers), seed)
    exact = (
        reader.causal([groups[place] for place in chosen], layers, window, "row", target)["logprob"].double().numpy()
    )
    ours = maps["logprob"][:, chosen].double().numpy()
    known = np.isfinite(exact) & np.isfinite(ours)
    exact, ours = exact[known], ours[known]
    varies = len(exact) > 1 and bool(exact.std()) and bool(ours.std())
    return {
        "by": "gradient",
        "edges": int(known.sum()),
        "of": len(groups) * len(layers),
        "rank_correlation": rank_correlation(exact, ours) if varies else None,
        "correlation": float(np.corrcoef(exact, ours)[0, 1]) if varies else None,
        "slope": float(exact @ ours / (ours @ ours)) if varies else None,
    }
