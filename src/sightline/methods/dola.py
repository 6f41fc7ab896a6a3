"""DoLa: decoding by contrasting layers (arXiv 2309.03883, ICLR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.generating import check_share, cut_off
from sightline.methods.hidden import HiddenMethod, Lens, check_depth
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class DoLa(HiddenMethod):
    """Sets the last layer's distribution against that of the earlier layer which differs from it most.

        q_k = softmax(W_U norm(h_k)),  k in `layers`
        k* = argmax_k JSD(p, q_k)                  JSD(p, q) = KL(p, m) / 2 + KL(q, m) / 2,  m = (p + q) / 2
        l' = log p - log q_k*,    -inf where p < beta max p

    p: [rows, vocabulary], the model's; h_k: [rows, hidden], behind layer k as Transformers counts `hidden_states`.
    Each row of a batch chooses its own k*, where the library's own DoLa takes one for all. It acts in `generate`. One
    pass, and an unembedding more a token for each layer.

    By default `layers` are the even ones of the upper half, the bucket that the paper takes for short factual answers;
    for long ones it takes those of the lower half. Control: `cut_off:beta=0.1`, the cut-off without the contrast.
    """

    name: ClassVar[str] = "dola"
    layers: tuple[int, ...] | None = setting(None, "layers compared, as 16+18; by default the even ones from half up")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")

    def __post_init__(self) -> None:
        check_share(self.name, beta=self.beta)
        if self.layers is not None and not self.layers:
            raise InputError("dola has no layer to compare: give layers, as 16+18.")

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """The earlier layers."""
        depth = len(anatomy.layers)
        if self.layers is None:
            half = depth // 2
            return range(half + half % 2, depth, 2) or (half,)
        check_depth(self.name, anatomy, self.layers)
        if depth in self.layers:
            raise InputError(f"Layer {depth} in dola is the last, which the others are compared with: leave it out.")
        return self.layers

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        last = logits.log_softmax(-1)
        early = torch.stack([lens.logits(layer).log_softmax(-1) for layer in self.layers_read(lens.anatomy)])
        chosen = divergence(last, early).argmax(0)
        other = early[chosen, torch.arange(len(logits), device=logits.device)]
        return cut_off(last - other, last, self.beta)


def divergence(
    first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "layers rows vocabulary"]
) -> Float[Tensor, "layers rows"]:
    """The Jensen-Shannon divergence of log-probabilities, in nats; a token that neither gives is left out."""
    middle = torch.logaddexp(first, second) - log(2)

    def from_middle(log: Tensor) -> Tensor:
        return torch.where(log.isfinite(), log.exp() * (log - middle), 0.0).sum(-1)

    return (from_middle(first.expand_as(second)) + from_middle(second)) / 2
