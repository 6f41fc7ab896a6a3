"""Grey contrast: what the model would say of a grey image counts against a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.second_pass import tower_inputs
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import without_encoder_outputs


@register
@dataclass(frozen=True)
class GreyContrast(ContrastMethod):
    """Contrasts with the same prompt about an image of the mean colour, which is 0 behind the processor.

    l' = (1 + weight) l - weight l_grey,     -inf where p < floor max p
    """

    name: ClassVar[str] = "grey_contrast"
    weight: float = setting(1.0, "weight of the contrast, 0 (none) or more")
    floor: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off")

    @property
    def has_contrast(self) -> bool:
        """Without a weight there is nothing to run twice for."""
        return self.weight > 0

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> _Grey:
        """The second pass of one `generate`, which was given `given`."""
        return _Grey(anatomy, given)

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above, from the logits of both passes."""
        return contrast(first, second, self.weight, self.floor)


@dataclass
class _Grey:
    anatomy: Anatomy
    given: Mapping[str, Any]

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt: what enters the vision tower is exchanged."""
        given = tower_inputs(self.anatomy, self.given)
        grey = {name: torch.zeros_like(value) if "pixel_values" in name else value for name, value in given.items()}
        # `generate` may have encoded the image ahead, and the forward is then given its features.
        return {**without_encoder_outputs(inputs), **grey}

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A token of the answer: both passes read the same."""
        return inputs
