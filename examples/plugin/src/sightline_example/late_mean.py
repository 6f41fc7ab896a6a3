"""Late mean: the last layer's scores, averaged with those that an earlier layer would have given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sightline.methods.base import register, setting
from sightline.methods.hidden import HiddenMethod, Lens
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class LateMean(HiddenMethod):
    """l' = (1 - share) l + share W_U norm(h_k),     k: so many layers below the last."""

    name: ClassVar[str] = "late_mean"
    share: float = setting(0.5, "share of the earlier layer")
    below: int = setting(1, "layers below the last, 1 or more")

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """k, counted as Transformers counts `hidden_states`: 0 is the embedding."""
        return (len(anatomy.layers) - self.below,)

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above; step: tokens generated before."""
        (layer,) = self.layers_read(lens.anatomy)
        return (1 - self.share) * logits + self.share * lens.logits(layer)
