"""SparseVLM: image tokens ranked by the words that look at the image (arXiv 2410.04417, ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.pruning import StagedShares, words_behind
from sightline.methods.scoring import VISUAL
from sightline.models.layout import TokenLayout

TOKENS = 576
"""Image tokens of the paper's model."""


@register
@dataclass(frozen=True)
class SparseVLM(StagedShares):
    """Drops image tokens in steps by what the question's most image-minded words attend to.

        R_i = mean over image tokens j of softmax_i(v_j . t_i);     raters: words with R_i > mean R
        score_j = mean over raters and heads of a[i, j] in the layer before

    t, v: [words, hidden], [tokens, hidden], what enters the first layer: words behind the image, and image tokens. a:
    attention weights as the model uses them. Layers 2, 6 and 15 of 32 keep 300, 200 and 110 of 576 tokens, scaled to
    another depth and number; the paper's other budgets are 303, 110, 36 and 66, 30, 17.

    Left out: the paper's recycling, which puts a few means of what was dropped back in. Control: `prune_random`.
    """

    name: ClassVar[str] = "sparsevlm"
    paper_layers: ClassVar[tuple[int, ...]] = (2, 6, 15)
    layers: tuple[int, ...] | None = setting(None, "first layers on fewer tokens; by default 2+6+15 of 32, scaled")
    keep: tuple[float, ...] = setting(
        tuple(round(count / TOKENS, 4) for count in (300, 200, 110)), "of all tokens kept from each on: shares, numbers"
    )

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
