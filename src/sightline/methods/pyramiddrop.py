"""PyramidDrop: fewer image tokens at each of several depths (arXiv 2410.17247, CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sightline.methods.base import register, setting
from sightline.methods.pruning import StagedShares


@register
@dataclass(frozen=True)
class PyramidDrop(StagedShares):
    """Drops image tokens in steps: before each of its layers those that the prompt's last token attends to least.

        score_j = mean over heads of a[last, j]         j: an image token that is left
        kept from layer K_s on: floor(keep_s N) of the sample's N image tokens, at least one

    a: the attention weights that layer K_s itself would have on what is left before it. Its projections of query and
    key are computed for that once more, as in the public code. Layers 8, 16 and 24 of 32, counted from 0 and
    scaled to another depth (two that fall on one layer are one), keep a half, a quarter and an eighth. Rotary positions
    are counted anew from each of them on, also those of generated tokens, as in the public code; those in three
    dimensions (Qwen) stay.

    `ahead` = false ranks by the weights of the layer before, as `fastv` does, which costs nothing and is ours. Control:
    `random`.
    """

    name: ClassVar[str] = "pyramiddrop"
    paper_layers: ClassVar[tuple[int, ...]] = (8, 16, 24)
    layers: tuple[int, ...] | None = setting(None, "first layers on fewer tokens; by default 8+16+24 of 32, scaled")
    keep: tuple[float, ...] = setting((0.5, 0.25, 0.125), "tokens kept from each on: shares up to 1, or numbers")
    ahead: bool = setting(True, "rank by the attention of the layer that follows; false: of the one before, for free")

    @property
    def ranks_ahead(self) -> bool:
        """By the attention of the layer that follows."""
        return self.ahead

    def count(self, share: float, total: int) -> int:
        """How many of a sample's tokens stay: shares are floored, as in the public code."""
        return max(1, min(total, int(total * share if share <= 1 else share)))
