"""What of an estimated map is cut exactly: the largest effects, and a sample that says how far to trust the rest."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.knockout.reader import ImpactReader
from sightline.stats import rank_correlation

FEWEST = 16
"""Sources in a sample at least."""

WHOLE = 256
"""Edges of a map up to which all of it is cut."""


def sampled(sources: int, layers: int, seed: int) -> list[int]:
    """Which sources are cut in all layers: n of them in L layers are n L / 2 rows of a layer, together about a pass."""
    if sources * layers <= WHOLE:
        return list(range(sources))
    count = min(sources, max(FEWEST, round(2 * sources / layers)))
    return sorted(Random(seed).sample(range(sources), count))


def refined(
    reader: ImpactReader,
    maps: dict[str, Tensor],
    groups: Sequence[Sequence[int]],
    layers: Sequence[int],
    window: int,
    target: int | None,
    seed: int,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The maps with what was cut in its place and a map "exact", 1 there and 0 elsewhere; and how far both agree.

    Cut are as many of the largest estimated changes of the log-probability as there are sources, and the sample. The
    agreement is that of the estimates on the sample alone: {"by", "edges", "of", "cut", "rank_correlation",
    "correlation", "slope"}, Spearman's, Pearson's, and the slope of the cut on the estimated ones through zero; None
    where nothing varies.
    """
    chosen = sampled(len(groups), len(layers), seed)
    size = maps["logprob"].nan_to_num().abs()
    edges = torch.zeros(size.shape, dtype=torch.bool)
    edges.view(-1)[size.flatten().topk(min(len(groups), size.numel())).indices] = True
    edges[:, chosen] = True
    exact = reader.causal(groups, layers, window, "row", target, edges)
    agreement = _agreement(exact["logprob"][:, chosen], maps["logprob"][:, chosen])
    found = {name: torch.where(edges, exact[name], values) for name, values in maps.items()}
    about = {"by": "gradient", "of": edges.numel(), "cut": int(edges.sum())}
    return found | {"exact": edges.float()}, about | agreement


def _agreement(exact: Tensor, estimated: Tensor) -> dict[str, Any]:
    ours, theirs = estimated.double().numpy(), exact.double().numpy()
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    varies = len(ours) > 1 and bool(ours.std()) and bool(theirs.std())
    return {
        "edges": int(known.sum()),
        "rank_correlation": rank_correlation(theirs, ours) if varies else None,
        "correlation": float(np.corrcoef(theirs, ours)[0, 1]) if varies else None,
        "slope": float(theirs @ ours / (ours @ ours)) if varies else None,
    }
