"""DoLa: decoding by contrasting layers (arXiv 2309.03883, ICLR 2024; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar, Literal

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

        q_k = softmax(W_U h_k),  k in `layers`                     norm=true: softmax(W_U norm(h_k))
        k* = argmax_k (KL(m, p) + KL(m, q_k)) / 2                  m = (p + q_k) / 2
        l' = log p - log q_k*,    -inf where p < beta max p

    p: [rows, vocabulary], the model's; h_k: [rows, hidden], behind layer k as Transformers counts `hidden_states`.
    The paper has the Jensen-Shannon divergence, (KL(p, m) + KL(q_k, m)) / 2 (form=paper); its code and the library's
    turn both round, so that published numbers are of the form above. Neither norms h_k. Each row of a batch chooses its
    own k*, where both take one for all. It acts in `generate`. One pass, and an unembedding more a token for each
    layer.

    By default `layers` are every second one of the upper half, of the last 20 in a model of more than 40: the bucket
    that the paper takes for short factual answers; for long ones it takes those of the lower half. Control:
    `cut_off:beta=0.1`, the cut-off without the contrast.
    """

    name: ClassVar[str] = "dola"
    layers: tuple[int, ...] | None = setting(None, "layers compared, as 16+18; by default every second from half up")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    form: Literal["code", "paper"] = setting("code", "the divergence of the public code or of the paper, see above")
    norm: bool = setting(False, "the model's last norm before the unembedding of earlier layers")

    def __post_init__(self) -> None:
        check_share(self.name, beta=self.beta)
        if self.layers is not None and not self.layers:
            raise InputError("dola has no layer to compare: give layers, as 16+18.")
        if self.form not in ("code", "paper"):
            raise InputError(f"form is {self.form} in dola: give code or paper.")

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """The earlier layers."""
        depth = len(anatomy.layers)
        if self.layers is None:
            return range(max(depth // 2, depth - 20), depth, 2)
        check_depth(self.name, anatomy, self.layers)
        if depth in self.layers:
            raise InputError(f"Layer {depth} in dola is the last, which the others are compared with: leave it out.")
        return self.layers

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        last, layers = logits.log_softmax(-1), self.layers_read(lens.anatomy)
        early = torch.stack([lens.logits(layer, self.norm).log_softmax(-1) for layer in layers])
        chosen = divergence(last, early, self.form).argmax(0)
        other = early[chosen, torch.arange(len(logits), device=logits.device)]
        return cut_off(last - other, last, self.beta)


def divergence(
    first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "layers rows vocabulary"], form: str
) -> Float[Tensor, "layers rows"]:
    """Of log-probabilities, in nats: the Jensen-Shannon divergence, or that of DoLa's code, see `DoLa`.

    Tokens whose probability is 0 in either are left out of that one's sum.
    """
    middle = torch.logaddexp(first, second) - log(2)

    def apart(log: Tensor) -> Tensor:
        weight, far = (middle, middle - log) if form == "code" else (log, log - middle)
        return torch.where(log.isfinite(), weight.exp() * far, 0.0).sum(-1)

    return (apart(first.expand_as(second)) + apart(second)) / 2
