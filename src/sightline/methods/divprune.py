"""DivPrune: keep image tokens that differ most from each other (arXiv 2503.02175, CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.pruning import PruningMethod


@register
@dataclass(frozen=True)
class DivPrune(PruningMethod):
    """Keeps the image tokens whose nearest kept neighbour is as far away as can be, found greedily.

        d_ij = 1 - cos(v_i, v_j)
        first: argmax_i min_{j != i} d_ij;     then: argmax_{i not in S} min_{j in S} d_ij,  until |S| = keep

    v: [tokens, hidden], the features that enter the language model. No attention is read, so that it works with every
    tower. Written from the formula: the official code is not free to copy. keep = 1 changes nothing. Control:
    `prune_random`.
    """

    name: ClassVar[str] = "divprune"
    keep: float = setting(0.098, "image tokens kept: a share up to 1, or a number above it")

    def pick(
        self, image: Float[Tensor, "tokens hidden"], text: Float[Tensor, "words hidden"], count: int
    ) -> Int[Tensor, " kept"]:
        """S above."""
        return most_diverse(image, count)


def most_diverse(image: Float[Tensor, "tokens hidden"], count: int) -> Int[Tensor, " kept"]:
    """The greedy max-min choice."""
    unit = torch.nn.functional.normalize(image, dim=-1)
    distance = 1 - unit @ unit.T
    alone = distance.masked_fill(torch.eye(len(image), dtype=torch.bool, device=image.device), float("inf"))
    chosen = torch.zeros(count, dtype=torch.long, device=image.device)
    nearest = alone.amin(1)
    for place in range(count):
        best = nearest.argmax(keepdim=True)  # stays on the device: a number would wait for it at every token
        chosen[place] = best[0]
        apart = distance.index_select(0, best)[0]
        nearest = (torch.minimum(nearest, apart) if place else apart).index_fill(0, best, -1)
    return chosen
