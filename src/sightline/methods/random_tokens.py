"""Controls of pruning: as many image tokens stay, but random ones. Does it matter which are kept?

The draw depends on `seed` and on which eight tokens score highest, in order: so it differs between images, and not with
the place of a sample in a batch or with a beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.pruning import PruningMethod, random_order


@register
@dataclass(frozen=True)
class RandomFasterVLM(FasterVLM):
    """FasterVLM that keeps as many random patches of each image (of each tile, where it is cut)."""

    name: ClassVar[str] = "fastervlm_random"
    seed: int = setting(0, "of the draw")

    def pick(self, scores: Float[Tensor, " tokens"]) -> Bool[Tensor, " tokens"]:
        """Which tokens of one crop stay."""
        count = int(super().pick(scores).sum())
        return torch.zeros(len(scores), dtype=torch.bool).index_fill_(0, random_order(self.seed, scores)[:count], True)


@register
@dataclass(frozen=True)
class RandomFastV(FastV):
    """FastV that drops as many random image tokens of each sample."""

    name: ClassVar[str] = "fastv_random"
    seed: int = setting(0, "of the draw")

    def keep(
        self, scores: Float[Tensor, " positions"], image: Bool[Tensor, " positions"]
    ) -> Bool[Tensor, " positions"]:
        """Which positions of one sample stay."""
        places = image.nonzero()[:, 0]
        count = int((super().keep(scores, image) & image).sum())
        stays = ~image
        stays[places[random_order(self.seed, scores[places])[:count]]] = True
        return stays


@register
@dataclass(frozen=True)
class RandomPrune(PruningMethod):
    """Keeps random image tokens of each sample: a control of every method that drops some before the language model.

    The draw depends on `seed` and on the image, so that it differs between images.
    """

    name: ClassVar[str] = "prune_random"
    keep: float = setting(0.098, "image tokens kept: a share up to 1, or a number above it")
    seed: int = setting(0, "of the draw")

    def pick(
        self, image: Float[Tensor, "tokens hidden"], text: Float[Tensor, "words hidden"], count: int
    ) -> Int[Tensor, " kept"]:
        """Which tokens of one sample stay."""
        return random_order(self.seed, torch.linalg.vector_norm(image, dim=-1))[:count]
