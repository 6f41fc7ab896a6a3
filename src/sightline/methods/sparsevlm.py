"""SparseVLM: image tokens ranked by the words that look at the image (arXiv 2410.04417, ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.pruning import StagedShares, words_behind
from sightline.methods.scoring import VISUAL
from sightline.methods.stages import Recycle
from sightline.models.layout import TokenLayout

TOKENS = 576
"""Image tokens of the paper's model."""


@register
@dataclass(frozen=True)
class SparseVLM(StagedShares):
    """Drops image tokens in steps by what the question's most image-minded words attend to.

        R_i = mean over image tokens j of softmax_i(v_j . t_i);     raters: words with R_i > mean R
        score_j = mean over raters and heads of a[i, j] in the layer before
        recycled: of the n dropped the floor(0.3 n) + 1 best, as floor(m / 10) + 1 means        m: so many of them

    t, v: [words, hidden], [tokens, hidden], what enters the first layer: words behind the image, and image tokens. a:
    attention weights as the model uses them. Behind layers 2, 6 and 15 of 32, counted from 0, 300, 200 and 110 of 576
    tokens stay, scaled to another depth and number; the public code's other budgets are 303, 110, 36 (128 tokens on
    average), 238, 48, 26 (96) and 66, 30, 17 (64). The means are of clusters around density peaks (`recycled`); they
    stand behind all other image tokens, are ranked with them in the next step, and are shown where their clusters'
    centres lie. Rotary positions are counted anew from each step on, also those of generated tokens; those in three
    dimensions (Qwen) stay.

    As the paper's figures were made with version 1.5 of the public code. The paper's text has the counts from the rank
    of the raters' attention, as version 1.0 had; SparseVLM+ (version 2.0) recycles nothing, keeps positions, divides
    attention by that of equal queries and keys, and reads 14 heads: it is not this. Controls: `random`, and `recycle`
    = false.
    """

    name: ClassVar[str] = "sparsevlm"
    paper_layers: ClassVar[tuple[int, ...]] = (3, 7, 16)
    layers: tuple[int, ...] | None = setting(None, "first layers on fewer tokens; by default 3+7+16 of 32, scaled")
    keep: tuple[float, ...] = setting(
        tuple(round(count / TOKENS, 4) for count in (300, 200, 110)), "of all tokens kept from each on: shares, numbers"
    )
    recycle: bool = setting(True, "whether means of what is dropped go on as tokens")

    def recycler(self) -> Recycle | None:
        """The means of clusters."""
        return recycled if self.recycle else None

    def raters(
        self, layout: TokenLayout, features: Float[Tensor, "batch positions hidden"]
    ) -> Bool[Tensor, "batch positions"]:
        """The words whose attention counts; the last one where none stands out."""
        words, visual = words_behind(layout), layout.mask(*VISUAL)
        chosen = torch.zeros_like(words)
        for sample, state in enumerate(features.float().cpu()):
            places = words[sample].nonzero()[:, 0]
            if not len(places) or not bool(visual[sample].any()):
                chosen[sample, places[-1:]] = True
                continue
            liking = (state[visual[sample]] @ state[places].T).softmax(1).mean(0)
            raters = places[liking > liking.mean()]
            chosen[sample, raters if len(raters) else places[-1:]] = True
        return chosen


def recycled(
    x: Float[Tensor, "dropped hidden"], scores: Float[Tensor, " dropped"]
) -> tuple[Int[Tensor, " clusters"], Float[Tensor, "clusters hidden"]]:
    """The centres among what is dropped, best first, and the means of their clusters.

        d_ij = |x_i - x_j| / sqrt(hidden);      rho_i = exp(-mean of d_ij^2 over the c nearest j, i among them)
        delta_i = min of d_ij over rho_j > rho_i, max d where there is none
        centres: the c largest rho_i delta_i;       each other token goes to its nearest centre

    i, j: of the floor(0.3 n) + 1 = m tokens of the highest scores; c = floor(m / 10) + 1. The public code adds noise of
    1e-6 to rho, against ties.
    """
    best = scores.topk(int(0.3 * len(x)) + 1).indices
    x = x[best]
    count = len(x) // 10 + 1
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    density = (-distance.topk(count, largest=False).values.square().mean(1)).exp()
    is_denser = density[None] > density[:, None]
    apart = torch.where(is_denser, distance, distance.max()).amin(1)
    centres = (apart * density).topk(count).indices
    nearest = distance[centres].argmin(0)
    nearest[centres] = torch.arange(count, device=x.device)
    share = torch.nn.functional.one_hot(nearest, count).to(x.dtype)
    return best[centres], (share / (share.sum(0) + 1e-6)).T @ x
