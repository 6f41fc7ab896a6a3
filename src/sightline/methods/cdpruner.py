"""CDPruner: a determinantal choice of image tokens (arXiv 2506.10967, NeurIPS 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.pruning import PruningMethod


@register
@dataclass(frozen=True)
class CDPruner(PruningMethod):
    """Keeps the image tokens that are relevant and unlike each other: the greedy mode of a determinantal point process.

        L_ij = r_i cos(v_i, v_j) r_j          S = argmax det(L_S),  |S| = keep, one token at a time

    v: [tokens, hidden], the features that enter the language model; r: relevance to the question, min-max scaled. The
    paper takes r from CLIP's text tower (minus the mean cosine of image and text), which a language model does not
    carry: by default r = 1, its unconditional form. `relevance` = words takes the mean cosine of a token with the
    embeddings of the words behind the image instead, which is ours. keep = 1 changes nothing. Control: `prune_random`.
    """

    name: ClassVar[str] = "cdpruner"
    keep: float = setting(64.0, "image tokens kept: a share up to 1, or a number above it")
    relevance: Literal["none", "words"] = setting("none", "none, or words: the question's words weigh tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevance not in ("none", "words"):
            raise InputError(f"relevance is {self.relevance} in cdpruner: give none or words.")

    def pick(
        self, image: Float[Tensor, "tokens hidden"], text: Float[Tensor, "words hidden"], count: int
    ) -> Int[Tensor, " kept"]:
        """S above."""
        unit = torch.nn.functional.normalize(image, dim=-1)
        kernel = (unit @ unit.T).fill_diagonal_(1)  # by rounding alone the first choice would differ with the batch
        if self.relevance == "words" and len(text):
            r = (unit @ torch.nn.functional.normalize(text, dim=-1).T).mean(1)
            # Away from 0, where a token could never be chosen.
            r = (r - r.min() + 1e-3) / (r.max() - r.min() + 1e-3)
            kernel = r[:, None] * kernel * r
        return greedy_mode(kernel, count)


def greedy_mode(kernel: Float[Tensor, "tokens tokens"], count: int) -> Int[Tensor, " kept"]:
    """One token at a time, the one that raises the determinant most, by its Cholesky factor (arXiv 1709.05135)."""
    gain = kernel.diagonal().clone()
    factor = kernel.new_zeros((count, len(kernel)))
    chosen = torch.zeros(count, dtype=torch.long, device=kernel.device)
    for place in range(count):
        best = gain.argmax(keepdim=True)  # stays on the device: a number would wait for it at every token
        before = factor[:place]
        row = kernel.index_select(0, best)[0] - before.index_select(1, best)[:, 0] @ before
        factor[place] = row / gain.index_select(0, best).clamp_min(1e-12).sqrt()
        chosen[place] = best[0]
        gain = (gain - factor[place].square()).index_fill(0, best, float("-inf"))
    return chosen
