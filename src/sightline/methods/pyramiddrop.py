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

        score_j = mean over heads of a[last, j] in the layer before         j: an image token that is left
        kept from layer K_s on: keep_s of all image tokens of the sample

    a: attention weights as the model uses them. Layers 8, 16 and 24 of 32, scaled to another depth (two that fall on
    one layer are one), keep a half, a quarter and an eighth. Positions are those of the prompt. Ranked by the weights
    of the layer before, as `fastv` does, which costs nothing: the public code computes them once more from the next
    layer's projections. Control: `prune_random`.
    """

    name: ClassVar[str] = "pyramiddrop"
    paper_layers: ClassVar[tuple[int, ...]] = (8, 16, 24)
    layers: tuple[int, ...] | None = setting(None, "first layers on fewer tokens; by default 8+16+24 of 32, scaled")
    keep: tuple[float, ...] = setting((0.5, 0.25, 0.125), "tokens kept from each on: shares up to 1, or numbers")
