"""The score of words against image patches, one layer of one sample; the equations of `Grounding`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.probes.grounding.form import ScoreForm
from sightline.probes.grounding.image import unit_length

if TYPE_CHECKING:
    from sightline.probes.grounding.head import GroundingHead

_TINY = 1e-30


@dataclass(frozen=True)
class LayerScore:
    """values: [words]. closeness: [words, patches], without a graph: how much each patch speaks for the word."""

    values: Float[Tensor, " words"]
    closeness: Float[Tensor, "words patches"]


def score_words(
    spec: ScoreForm,
    head: GroundingHead | None,
    number: int,
    words: Float[Tensor, "words hidden"],
    features: Float[Tensor, "patches hidden"],
    unit: Float[Tensor, "patches hidden"],
    attention: Float[Tensor, "words patches"] | None,
) -> LayerScore:
    """Score the words of one sample.

    number: of the layer among those chosen. unit: the features at length 1. attention: of each word on each patch,
    where it is read. All in float32, also under autocast. A sample without words or patches has none.
    """
    # Layers may lie on other devices than the embedding; words are fewer than patches.
    words, attention = words.to(unit.device), None if attention is None else attention.to(unit.device)
    with torch.autocast(unit.device.type, enabled=False):
        if not len(words) or not len(features):
            nothing = torch.zeros((len(words), len(features)), dtype=unit.dtype, device=words.device)
            return LayerScore(nothing.sum(1), nothing)
        if spec.kind == "learned" and head is not None and attention is not None:
            share = _renormalised(attention).to(unit.dtype)
            return LayerScore(head.judge(number, words.to(unit.dtype), share @ features.to(unit.dtype)), share)
        projected = words if head is None else head.project(number, words.to(unit.dtype))
        cosines = unit_length(projected) @ unit.T
        if attention is not None:
            weights = _renormalised(attention) if spec.renormalise else attention
            weighted = weights.to(cosines.dtype) * cosines
            return LayerScore(weighted.sum(1), weighted.detach())
        best = cosines.amax(1) if spec.top == 1 else cosines.topk(min(spec.top, len(unit)), 1).values.mean(1)
        return LayerScore(best, cosines.detach())


def _renormalised(attention: Tensor) -> Tensor:
    return attention / attention.sum(1, keepdim=True).clamp(min=_TINY)
