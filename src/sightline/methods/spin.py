"""SPIN: heads that look away from the image are turned down (arXiv 2505.16411, EMNLP 2025; confirmed in its code)."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import AttentionCall
from sightline.attention.weights import row_weights, score_blocks
from sightline.errors import InputError
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting
from sightline.methods.generating import check_share
from sightline.methods.scoring import check_range
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class SPIN(AttentionEdit):
    """Multiplies the output of each layer's least image-minded heads by alpha, in the row that predicts the next token.

        z_h = sum over image keys j of s_hj             s: scores before the softmax, scaled; last row
        o_h <- alpha o_h    for all heads but the floor(r H) of the largest z

    o: [batch, heads, 1, head_dim], before the output projection. Chosen anew for each layer, row and sample; the public
    code also divides z by its deviation over heads, which changes no order. A sum of raw scores over hundreds of keys
    depends on their sign; `by` = weights ranks by attention instead, which the public code does not. Defaults are
    those of POPE for LLaVA-1.5; for captions r 0.95 and alpha 0.08; Qwen-VL has r 0.7, alpha 0.08, layers 0 to 19.
    alpha = 1 changes nothing.

    Control: `by` = random keeps as many random heads, drawn from `seed` by layer.
    """

    name: ClassVar[str] = "spin"
    rows: ClassVar[Rows] = "last"
    stage: ClassVar[Literal["scores", "weights"]] = "weights"
    r: float = setting(0.8, "share of each layer's heads that are kept as they are, 0 to 1")
    alpha: float = setting(0.1, "factor on the output of the other heads, 0 to 1")
    first_layer: int = setting(0, "first layer whose heads are ranked")
    last_layer: int | None = setting(None, "last layer whose heads are ranked; by default the model's last")
    by: Literal["scores", "weights", "random"] = setting("scores", "what ranks heads: scores, weights, or random")
    seed: int = setting(0, "of the draw where by=random")

    def __post_init__(self) -> None:
        check_share(self.name, r=self.r, alpha=self.alpha)
        if self.by not in ("scores", "weights", "random"):
            raise InputError(f"by is {self.by} in spin: give scores, weights or random.")

    @property
    def is_idle(self) -> bool:
        """A factor of 1 changes nothing."""
        return self.alpha == 1

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on in this model."""
        return frozenset(check_range(self.name, self.first_layer, self.last_layer, anatomy))

    def at_pass(self, keys: Keys) -> Float[Tensor, "batch 1 queries"]:
        """The factor of heads that are not kept; 1 in rows that are left as they are."""
        return torch.where(keys.acts[:, None] & keys.image.any(-1), self.alpha, 1.0)

    def at_call(self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys) -> Float[Tensor, "batch heads rows"]:
        """Each head's factor; 1 for all in a row that sees no image, as behind a sliding window."""
        if self.by == "weights":
            z = (row_weights(call, rows) * keys.image).sum(-1)
        else:
            z = image_scores(call, rows, keys.image)
        is_blind = ~(keys.image & call.visible(rows)).any(-1)
        return self._factors(z, keys.shared[..., rows].masked_fill(is_blind, 1.0), keys.layer)

    def at_row(self, scores: Float[Tensor, "batch heads 1 keys"], keys: Keys) -> Float[Tensor, "batch heads 1"]:
        """The same of a row that sees every key."""
        values = scores.softmax(-1) if self.by == "weights" else scores
        return self._factors((values * keys.image).sum(-1), keys.shared, keys.layer)

    def _factors(
        self, z: Tensor, others: Float[Tensor, "batch 1 rows"], layer: int
    ) -> Float[Tensor, "batch heads rows"]:
        if self.by == "random":
            source = torch.Generator().manual_seed(self.seed * 10007 + layer)
            z = torch.rand(z.shape[1], generator=source).to(z.device)[None, :, None].expand_as(z)
        kept = z.topk(floor(self.r * z.shape[1]), 1).indices
        return others.expand_as(z).scatter(1, kept, 1.0)

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The weights, and with them the output, times their heads' factors."""
        factors: Tensor = keys.seen[:, keys.head : keys.head + values.shape[1], keys.rows]
        return values * factors[..., None]


def image_scores(
    call: AttentionCall, rows: Int[Tensor, " rows"], image: Bool[Tensor, "batch 1 1 keys"]
) -> Float[Tensor, "batch heads rows"]:
    """z above."""
    total = call.query.new_zeros((call.query.shape[0], call.heads, len(rows)), dtype=torch.float32)
    for _, block in score_blocks(call, rows):
        heads = slice(block.head, block.head + block.values.shape[1])
        found = block.values.masked_fill(~(image & block.values.isfinite()), 0.0).sum(-1)
        total[:, heads, block.first_row : block.first_row + len(block.rows)] = found
    return total
