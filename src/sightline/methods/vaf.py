"""VAF: visual amplification fusion, from ClearSight (CVPR 2025, arXiv 2503.13107; confirmed in its public code)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention import AttentionCall
from sightline.errors import InputError
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting
from sightline.methods.scoring import Target, check_layers, check_target
from sightline.models.anatomy import Anatomy

FIRST, LAST, DEPTH = 9, 14, 32
"""The layers of the paper, and the number of layers of its model."""


@register
@dataclass(frozen=True)
class VAF(AttentionEdit):
    """Multiplies scores in the middle layers: those of the image by more than 1, those of the system prompt by less.

        e_ij <- enhance e_ij    j image               e_ij <- suppress e_ij    j before the first image token

    i: rows after the last image token, and every row while decoding. e: [batch, heads, rows, keys], scores before the
    softmax, in float32 beside the model's kernel. Layers 9 to 14 of 32; of another depth L those nearest to the same
    shares, round(9 L / 32) to round(14 L / 32).

    Sign trap: a factor above 1 raises a positive score and lowers a negative one, so that image tokens with negative
    scores get less attention than before, and a suppressed system token with a negative score gets more. This is the
    method as it was published; `pai` adds alpha |e| instead. The paper acts in heads that look at the image alone; its
    public code, whose figures are the defaults, in all, and so does this.

    target = text is a control: the text behind the image's first token in the place of the image.
    """

    name: ClassVar[str] = "vaf"
    rows: ClassVar[Rows] = "after the image"
    prompt_in_pieces: ClassVar[bool] = True
    enhance: float = setting(1.15, "factor on the scores of image keys, above 0; 1 leaves them")
    suppress: float = setting(0.95, "factor on the scores of keys before the image, above 0; 1 leaves them")
    layers: tuple[int, ...] | None = setting(
        None, "these layers, as 9+10; by default 9 to 14 of 32, scaled to the depth"
    )

    target: Target = setting("image", "whose scores `enhance` multiplies: image, or text (behind it) as a control")

    def __post_init__(self) -> None:
        check_target(self.name, self.target)
        for field in ("enhance", "suppress"):
            if not 0 < getattr(self, field) < inf:
                raise InputError(f"{field} is {getattr(self, field)} in vaf: give a factor above 0.")

    @property
    def is_idle(self) -> bool:
        """Factors of 1 change nothing."""
        return self.enhance == self.suppress == 1

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on in this model."""
        if self.layers is not None:
            return check_layers(self.name, self.layers, anatomy)
        depth = len(anatomy.layers)
        first, last = (min(depth - 1, round(layer * depth / DEPTH)) for layer in (FIRST, LAST))
        return frozenset(range(first, last + 1)) & frozenset(anatomy.attention_layers)

    def at_pass(self, keys: Keys) -> Float[Tensor, "batch 1 1 keys"]:
        """The keys' factors; all 1 in samples without an image."""
        enhanced = keys.image if self.target == "image" else keys.text & ~keys.system
        return 1 + (self.enhance - 1) * enhanced.float() + (self.suppress - 1) * keys.system.float()

    def by_kernel(
        self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys
    ) -> Float[Tensor, "batch queries heads value_dim"] | None:
        """A factor on a key's scores is one on the key; other dtypes would round it, and float32 does not."""
        if not call.is_bare or call.key.dtype != torch.float32:
            return None
        changed = replace(call, key=call.key * keys.shared.transpose(2, 3)).run()
        before = call.queries - len(rows)
        start = call.first_rows(before)
        if start is not None and bool(keys.acts[:, before:].all()):
            return torch.cat([start.run(), changed[:, before:]], 1)
        return torch.where(keys.acts[:, :, None, None], changed, call.run())

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The scores times their keys' factors."""
        factors: Tensor = keys.shared
        return values * factors
