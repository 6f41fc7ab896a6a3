"""FastV: drop the image tokens that are little attended to after a few layers (arXiv 2403.06764; confirmed)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.dropping import Keep
from sightline.methods.pruning import StagedPruning
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class FastV(StagedPruning):
    """Runs layers K and up on a prompt that has lost the share R of its image tokens.

        score_j = mean over heads of a[last, j] in layer K - 1      last: the prompt's last token; j: image
        dropped before layer K: all but the round(N (1 - R)) image tokens of the highest score

    a: attention weights as the model uses them. N: all image tokens of a sample. The dropped tokens are not masked but
    gone: layers K and up compute, cache and attend to the others alone, at the positions these had in the prompt, and
    so does every decoding step. Layers are counted from 0. The choice is made once, on the prompt.

    A probe goes on seeing the whole prompt, with weight 0 on what is dropped. Between layers and in the output of a
    plain forward pass a dropped position keeps the hidden state with which it came to layer K.
    """

    name: ClassVar[str] = "fastv"
    K: int = setting(2, "first layer that runs on fewer tokens, 1 to the model's last")
    R: float = setting(0.5, "share of the image tokens dropped, 0 (none) to 1 (all)")

    def __post_init__(self) -> None:
        if not 0 <= self.R <= 1:
            raise InputError(f"R is {self.R} in fastv: give a share from 0 to 1.")

    @property
    def is_idle(self) -> bool:
        """Nothing is dropped."""
        return not self.R

    def stages(self, anatomy: Anatomy) -> Mapping[int, Keep]:
        """Once, before layer K."""
        return {self.K: lambda scores, image, total: self.keep(scores, image)}

    def keep(self, scores: Tensor, image: Tensor) -> Tensor:
        """[positions], bool: which positions of one sample stay. scores: [positions]; image: [positions], bool."""
        places = image.nonzero()[:, 0]
        count = round(len(places) * (1 - self.R))
        stays = ~image
        stays[places[scores[places].topk(count).indices]] = True
        return stays
