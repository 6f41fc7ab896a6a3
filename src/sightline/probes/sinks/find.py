"""Finding the sink dimensions of a model on its own activations.

On each sample, for each layer l >= 2, with x a token's hidden state entering the layer:

    dimension d is massive on x   when  |x_d| / RMS(x) > theta  and  |x_d| > 6 m
    d is a hit at l               when it is so on some token, and |x_d| / RMS(x) > theta / 2 on at most half of them
    score(d)                      the share of (sample, layer) at which d is a hit

theta = min(20, 0.4 sqrt(hidden size)); m is the median RMS over the sample's tokens of the same modality. The second
condition is what makes an activation massive and not only large beside its neighbours: in a small model a plain random
state passes the first. Dimensions that are large on all tokens, as some models have, never score.

The dimensions kept are those before the largest drop in the sorted scores (the gap), if they score at least 0.25.
The threshold tau for phi is 20, the paper's, where it fires on at least half of the hits, else theta, to two decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.sink_tracker import FIRST_LAYER, TAU, StateTap, root_mean_square
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality

SHARE = 0.4
"""Least |x_d|/RMS of a massive activation as a share of its bound, sqrt(hidden size), where 20 is above that."""

MASSIVE = 6.0
"""A massive activation's size in median RMS of the tokens of its modality."""

LEAST_SCORE = 0.25
LISTED = 10
"""Candidates that are reported."""

_CHUNK_BYTES = 32 * 2**20


def floor_of(hidden_size: int) -> float:
    """theta: the |x_d|/RMS from which a dimension may be massive."""
    return min(TAU, SHARE * sqrt(hidden_size))


@dataclass(frozen=True)
class Survey:
    """What one sample says about the dimensions.

    layers: how many were looked at. hits: by dimension, in how many of them it was a hit; dimensions without are left
    out. hits_at_20: those of them at which some token passes 20, the paper's threshold.
    """

    layers: int
    hits: Mapping[int, int]
    hits_at_20: Mapping[int, int]

    def to_dict(self) -> dict[str, Any]:
        """As a run folder keeps it."""
        return {"layers": self.layers, "hits": dict(self.hits), "hits_at_20": dict(self.hits_at_20)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Survey:
        """The inverse of `to_dict`, also after JSON made the dimensions strings."""
        hits, at_20 = (
            {int(dim): int(count) for dim, count in document[name].items()} for name in ("hits", "hits_at_20")
        )
        return cls(int(document["layers"]), hits, at_20)


@dataclass(frozen=True)
class FoundDims:
    """The dimensions that stand clear of the others. candidates: (dim, score), the best first.

    gap: the score of the last one kept minus that of the next; None without dimensions.
    """

    dims: tuple[int, ...]
    tau: float
    gap: float | None
    candidates: tuple[tuple[int, float], ...]


def survey(anatomy: Anatomy, run: Any, layout: LayoutSource | None = None) -> list[Survey]:
    """Runs prompts and returns what each says, in order.

    run: called without arguments; it runs the model once on the prompts. Keeps a few numbers a dimension, no states.
    """
    surveyor = _Surveyor(anatomy)
    try:
        with torch.no_grad(), attach(anatomy, reader=surveyor, layout=layout, layers=()):
            run()
    finally:
        surveyor.close()
    return surveyor.surveys()


def choose(surveys: Sequence[Survey], hidden_size: int, tau: float | None = None) -> FoundDims:
    """The sink dimensions that surveys of one model agree on; none where no score reaches 0.25.

    tau: the threshold of phi to report instead of the one the rule gives.
    """
    layers = sum(entry.layers for entry in surveys)
    totals: dict[int, int] = {}
    for entry in surveys:
        for dim, count in entry.hits.items():
            totals[dim] = totals.get(dim, 0) + count
    ranked = sorted(totals, key=lambda dim: (-totals[dim], dim))
    scores = [totals[dim] / layers for dim in ranked]
    drops = [
        (score - following, count)
        for count, (score, following) in enumerate(pairwise([*scores, 0.0]), start=1)
        if score >= LEAST_SCORE
    ]
    gap, kept = max(drops, key=lambda drop: (drop[0], -drop[1]), default=(None, 0))
    dims = tuple(sorted(ranked[:kept]))
    at_20 = sum(entry.hits_at_20.get(dim, 0) for entry in surveys for dim in dims)
    is_paper = floor_of(hidden_size) >= TAU or (at_20 and 2 * at_20 >= sum(totals[dim] for dim in dims))
    chosen = (TAU if is_paper else round(floor_of(hidden_size), 2)) if tau is None else tau
    return FoundDims(dims, chosen, gap, tuple(zip(ranked, scores, strict=True))[:LISTED])


class _Surveyor:
    """Reduces the hidden states of each layer to counts a dimension, as they pass."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._layers = [layer for layer in range(len(anatomy.layers)) if layer >= FIRST_LAYER]
        self._theta = floor_of(anatomy.hidden_size)
        self._tap = StateTap(anatomy, self._layers, self._take)
        self._batches: list[int] = []
        self._hits: list[dict[int, Tensor]] = []

    def begin(self, step: ForwardPass) -> None:
        """A prompt begins, or goes on."""
        if step.is_start:
            self._batches.append(step.batch)
            self._hits.append({})
        self._tap.begin(step)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention says nothing about dimensions."""

    def end(self, step: ForwardPass) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Take all hooks off."""
        self._tap.close()

    def surveys(self) -> list[Survey]:
        """One a sample, in order."""
        found = []
        for batch, hits in zip(self._batches, self._hits, strict=True):
            # [2, batch, hidden]; layers may be on several devices.
            total = sum((counts.cpu() for counts in hits.values()), torch.zeros(2, batch, 1, dtype=torch.long))
            for sample in range(batch):
                tables = [{int(dim): int(counts[dim]) for dim in counts.nonzero()[:, 0]} for counts in total[:, sample]]
                found.append(Survey(len(self._layers), tables[0], tables[1]))
        return found

    def _take(self, layer: int, hidden: Tensor, step: ForwardPass) -> None:
        modality = step.layout.modality[:, step.offset : step.offset + hidden.shape[1]].to(hidden.device)
        present = modality != int(Modality.PADDING)
        rms = root_mean_square(hidden)
        least = MASSIVE * _typical(rms, modality)
        massive, at_20, large = (
            torch.zeros((hidden.shape[0], hidden.shape[-1]), dtype=torch.long, device=hidden.device) for _ in range(3)
        )
        chunk = max(1, _CHUNK_BYTES // (8 * hidden.shape[0] * hidden.shape[-1]))
        for start in range(0, int(hidden.shape[1]), chunk):
            part = slice(start, start + chunk)
            size = hidden[:, part].abs().float()
            ratio = (size / rms[:, part, None]).masked_fill_(~present[:, part, None], 0.0)
            is_massive = (ratio > self._theta) & (size > least[:, part, None])
            massive += is_massive.sum(1)
            at_20 += (is_massive & (ratio > TAU)).sum(1)
            large += (ratio > self._theta / 2).sum(1)
        is_rare = 2 * large <= present.sum(1, keepdim=True)
        self._hits[-1][layer] = torch.stack([(massive > 0) & is_rare, (at_20 > 0) & is_rare]).long()


def _typical(rms: Tensor, modality: Tensor) -> Tensor:
    """[batch, positions]: the median RMS of the tokens of the same sample and modality."""
    typical = torch.full_like(rms, torch.inf)
    for sample in range(int(rms.shape[0])):
        for kind in Modality:
            here = modality[sample] == int(kind)
            if kind is not Modality.PADDING and bool(here.any()):
                typical[sample, here] = rms[sample, here].median()
    return typical
