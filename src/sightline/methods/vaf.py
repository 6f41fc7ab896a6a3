"""VAF: visual amplification fusion, from ClearSight (CVPR 2025, arXiv 2503.13107; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.scoring import PlacesOf, Target, check_layers, check_target, require_image
from sightline.models.anatomy import Anatomy

FIRST, LAST, DEPTH = 9, 14, 32
"""The layers of the paper, and the number of layers of its model."""


@register
@dataclass(frozen=True)
class VAF(Method):
    """Multiplies scores in the middle layers: those of the image by more than 1, those of the system prompt by less.

        e_ij <- enhance e_ij    j image               e_ij <- suppress e_ij    j before the first image token

    i: rows after the last image token, and every row while decoding. e: [batch, heads, rows, keys], scores before the
    softmax, in float32 beside the model's kernel. Layers 9 to 14 of 32; of another depth L those nearest to the same
    shares, round(9 L / 32) to round(14 L / 32).

    Sign trap: a factor above 1 raises a positive score and lowers a negative one, so that image tokens with negative
    scores get less attention than before, and a suppressed system token with a negative score gets more. This is the
    method as it was published; `pai` adds alpha |e| instead.

    target = text is a control: the text behind the image's first token in the place of the image.
    """

    name: ClassVar[str] = "vaf"
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

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        layers = self.chosen_layers(anatomy)
        is_idle = self.enhance == self.suppress == 1
        with nullcontext() if is_idle else attach(anatomy, editor=_Scale(self, layers), layout=source):
            yield

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on in this model."""
        if self.layers is not None:
            return check_layers(self.name, self.layers, anatomy)
        depth = len(anatomy.layers)
        first, last = (min(depth - 1, round(layer * depth / DEPTH)) for layer in (FIRST, LAST))
        return frozenset(range(first, last + 1)) & frozenset(anatomy.attention_layers)


class _Scale:
    def __init__(self, method: VAF, layers: frozenset[int]) -> None:
        self._method, self._layers, self._places = method, layers, PlacesOf()

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        if step.is_start:
            require_image(VAF.name, step.layout)

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The rows after each sample's image."""
        if layer not in self._layers:
            return None
        places = self._places.at(step, call.query.device)
        # Samples without an image have no such keys, so that their factors are all 1.
        enhanced = places.visual if self._method.target == "image" else places.text & ~places.system
        factor = 1 + (self._method.enhance - 1) * places.keys(enhanced, call).float()
        factor = factor + (self._method.suppress - 1) * places.keys(places.system, call).float()
        position = torch.arange(call.queries, device=factor.device) + call.offset
        wanted = position > places.last[:, None]
        rows = wanted.any(0).nonzero()[:, 0]

        def scaled(block: Block) -> Tensor:
            mine = wanted[:, block.rows][:, None, :, None]
            return torch.where(mine, block.values * factor[:, None, None], block.values)

        return Edit(rows, scores=scaled) if len(rows) else None
