"""Longest: of the image tokens those whose features are longest go on."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from sightline.methods.base import register
from sightline.methods.pruning import PruningMethod


@register
@dataclass(frozen=True)
class Longest(PruningMethod):
    """Keeps the `keep` image tokens with the largest |v_i|. `keep` is the base's field: a share, or a number."""

    name: ClassVar[str] = "longest"

    def pick(
        self, image: Float[Tensor, "tokens hidden"], text: Float[Tensor, "words hidden"], count: int
    ) -> Int[Tensor, " kept"]:
        """Which `count` of one sample's image tokens stay, by their places from 0 on, in any order."""
        return image.norm(dim=-1).topk(count).indices
