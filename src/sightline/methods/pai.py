"""PAI: pay more attention to the image (arXiv 2407.21771; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.scoring import Target, check_range, check_target, prompt_layout
from sightline.methods.second_pass import Change
from sightline.methods.text_only import TextOnly
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class PAI(AttentionEdit, ContrastMethod):
    """Raises the image's scores in the last query row, and contrasts with the answer to the prompt without its image.

        e_j <- e_j + alpha |e_j|                                 j image; last row; layers first_layer to last_layer
        score(y) = gamma log p(y | image, text) - (gamma - 1) log p(y | text),   -inf where p(y) < floor max p

    e: [batch, heads, 1, keys], scores before the softmax, in float32 beside the model's kernel; the last row of the
    prompt, and every row while decoding. The absolute value is what keeps a negative score from falling: multiplying
    by 1 + alpha would lower it. The second pass has the image tokens cut out of its prompt, is run
    on the untouched model, and only acts in `generate`. alpha = 0 and gamma = 1 leave either part out.

    target = text is a control: all text of the prompt in the place of the image.
    """

    name: ClassVar[str] = "pai"
    rows: ClassVar[Rows] = "last"
    alpha: float = setting(0.2, "share of |score| added to the scores of image keys, 0 or more")
    gamma: float = setting(1.1, "weight of the contrast with the image-free prompt, 1 (none) or more")
    floor: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    first_layer: int = setting(2, "first layer whose attention is changed")
    last_layer: int | None = setting(None, "last layer whose attention is changed; by default the model's last")
    target: Target = setting("image", "whose scores are raised: image, or text as a control")

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < inf:
            raise InputError(f"alpha is {self.alpha} in pai: give 0 or more.")
        if not 1 <= self.gamma < inf:
            raise InputError(f"gamma is {self.gamma} in pai: give 1 (no contrast) or more.")
        if not 0 <= self.floor <= 1:
            raise InputError(f"floor is {self.floor} in pai: give a share from 0 to 1.")
        check_target(self.name, self.target)

    @property
    def is_idle(self) -> bool:
        """Whether attention is left alone."""
        return not self.alpha

    @property
    def has_contrast(self) -> bool:
        """Whether the prompt without its image counts."""
        return self.gamma != 1

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside; the contrast on every `generate`.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
        """
        with AttentionEdit.on(self, model, layout), ContrastMethod.on(self, model, layout):
            yield

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on in this model."""
        return frozenset(check_range(self.name, self.first_layer, self.last_layer, anatomy))

    def at_pass(self, keys: Keys) -> Float[Tensor, "batch 1 1 keys"]:
        """alpha for the keys of the target, 0 for the others."""
        return self.alpha * (keys.text if self.target == "text" else keys.image).float()

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The scores, those of the target raised by a share of their size."""
        return torch.addcmul(values, values.abs(), keys.shared)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The prompt without its image."""
        return TextOnly(self.name, prompt_layout(anatomy, layout, given))

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """The scores above."""
        return contrast(first, second, self.gamma - 1, self.floor)
