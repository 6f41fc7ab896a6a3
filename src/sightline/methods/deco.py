"""DeCo: dynamic correction decoding (arXiv 2410.11779, ICLR 2025; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.generating import check_least, check_share
from sightline.methods.hidden import HiddenMethod, Lens, layers_between
from sightline.models.anatomy import Anatomy

LAYERS = (20, 28)
"""The first and the last layer read in the paper, whose model has 32."""


@register
@dataclass(frozen=True)
class DeCo(HiddenMethod):
    """Corrects the last layer by the earlier one that is surest of a likely word: it may have seen what is suppressed.

        C = smallest set of likeliest tokens that hold the share `mass` of p, at most `keep`       p = softmax(l)
        q_k = softmax(l_k),  k from first_layer to last_layer
        (k*, y*) = argmax over k and y in C of q_k(y)
        l'(y) = l(y) + alpha q_k*(y*) l_k*(y)  for y in C,   -inf elsewhere          l_k = W_U norm(h_k)

    l: [rows, vocabulary], the model's logits at the last position; h_k: [rows, hidden], behind layer k as Transformers
    counts `hidden_states` (0 is the embedding); both layers inclusive. Each row of a batch chooses its own k*. It acts
    in `generate`. One pass; nine more unembeddings a token at the paper's layers.

    Layers 20 to 28 of 32; of another depth L those nearest to the same shares. alpha = 0 is its own control: the
    cut-off to C alone (`deco:alpha=0`).
    """

    name: ClassVar[str] = "deco"
    alpha: float = setting(0.6, "weight of the earlier layer's logits, 0 (the cut-off alone) or more")
    first_layer: int | None = setting(None, "first layer read; by default 20 of 32, scaled to the depth")
    last_layer: int | None = setting(None, "last layer read; by default 28 of 32, scaled to the depth")
    mass: float = setting(0.9, "share of the probability that the candidates hold, 0 to 1")
    keep: int = setting(20, "candidates at most, 1 or more")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha)
        check_least(self.name, 1, keep=self.keep)
        check_share(self.name, mass=self.mass)

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """first_layer to last_layer."""
        return layers_between(self.name, anatomy, (self.first_layer, self.last_layer), LAYERS)

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        candidates = likeliest(logits, self.mass, self.keep)
        if not self.alpha:
            return logits.masked_fill(~candidates, -inf)
        early = torch.stack([lens.logits(layer) for layer in self.layers_read(lens.anatomy)])
        sure = early.softmax(-1).masked_fill(~candidates, 0.0).amax(-1)
        weight, chosen = sure.max(0)
        best = early[chosen, torch.arange(len(logits), device=logits.device)]
        return (logits + self.alpha * weight[:, None] * best).masked_fill(~candidates, -inf)


def likeliest(logits: Float[Tensor, "rows vocabulary"], mass: float, keep: int) -> Bool[Tensor, "rows vocabulary"]:
    """The smallest set of likeliest tokens that hold this share of the probability, at most `keep`; never empty."""
    found = logits.softmax(-1).topk(min(keep, logits.shape[-1]))
    # A token stays while those before it do not hold the share yet.
    stays = found.values.cumsum(-1) - found.values < mass
    stays[:, 0] = True
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, found.indices, stays)
