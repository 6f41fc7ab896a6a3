"""PyramidDrop: fewer image tokens at each of several depths (arXiv 2410.17247, CVPR 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.dropping import Keep
from sightline.methods.pruning import StagedPruning, best_tokens, check_keep, kept_count
from sightline.models.anatomy import Anatomy

LAYERS, DEPTH = (8, 16, 24), 32
"""The layers of the paper, and the number of layers of its model."""


@register
@dataclass(frozen=True)
class PyramidDrop(StagedPruning):
    """Drops image tokens in steps: before each of its layers those that the prompt's last token attends to least.

        score_j = mean over heads of a[last, j] in the layer before         j: an image token that is left
        kept from layer K_s on: keep_s of all image tokens of the sample

    a: attention weights as the model uses them. Layers 8, 16 and 24 of 32, scaled to another depth (two that fall on
    one layer are one), keep a half, a quarter and an eighth. Positions are those of the prompt. Ranked by the weights
    of the layer before, as `fastv` does, which costs nothing: the public code computes them once more from the next
    layer's projections. Control: `prune_random`.
    """

    name: ClassVar[str] = "pyramiddrop"
    layers: tuple[int, ...] | None = setting(None, "first layers on fewer tokens; by default 8+16+24 of 32, scaled")
    keep: tuple[float, ...] = setting((0.5, 0.25, 0.125), "tokens kept from each on: shares up to 1, or numbers")

    def __post_init__(self) -> None:
        check_keep(self.name, *self.keep)
        if self.layers is not None and len(self.layers) != len(self.keep):
            raise InputError(
                f"pyramiddrop has {len(self.layers)} layers and {len(self.keep)} shares to keep: give as many of both."
            )

    def stages(self, anatomy: Anatomy) -> Mapping[int, Keep]:
        """The last share for layers that fall together."""
        depth = len(anatomy.layers)
        layers = self.layers or tuple(max(1, min(depth - 1, round(layer * depth / DEPTH))) for layer in LAYERS)
        return dict(zip(layers, (partial(self.keep_share, share) for share in self.keep), strict=False))

    def keep_share(self, share: float, scores: Tensor, image: Tensor, total: int) -> Tensor:
        """[positions], bool: which positions of one sample stay; image: [positions], those that are left."""
        return best_tokens(scores, image, kept_count(total, share))
