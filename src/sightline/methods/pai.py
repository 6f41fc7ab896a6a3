"""PAI: pay more attention to the image (arXiv 2407.21771; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.contrast import contrasted
from sightline.methods.scoring import PlacesOf, Target, check_range, check_target, prompt_layout, require_image
from sightline.methods.text_only import TextOnly


@register
@dataclass(frozen=True)
class PAI(Method):
    """Raises the image's scores in the last query row, and contrasts with the answer to the prompt without its image.

        e_j <- e_j + alpha |e_j|                                 j image; last row; layers first_layer to last_layer
        score(y) = gamma log p(y | image, text) - (gamma - 1) log p(y | text),   -inf where p(y) < floor max p

    e: [batch, heads, 1, keys], scores before the softmax, in float32 beside the model's kernel; the last row of the
    prompt, and every row while decoding. The absolute value is what keeps a negative score from falling: multiplying
    by 1 + alpha would lower it. The second pass has the image tokens cut out of its prompt, a cache of its own, is run
    on the untouched model, and only acts in `generate`. alpha = 0 and gamma = 1 leave either part out.

    target = text is a control: all text of the prompt in the place of the image.
    """

    name: ClassVar[str] = "pai"
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

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside; the contrast on every `generate`.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        layers = check_range(self.name, self.first_layer, self.last_layer, anatomy)
        with ExitStack() as stack:
            if self.alpha:
                stack.enter_context(attach(anatomy, editor=_Raise(self.alpha, layers, self.target), layout=source))
            if self.gamma != 1:
                stack.enter_context(
                    contrasted(
                        self.name,
                        anatomy,
                        lambda given: TextOnly(self.name, prompt_layout(anatomy, source, given)),
                        self.gamma - 1,
                        self.floor,
                    )
                )
            yield


class _Raise:
    """The attention part, as an editor."""

    def __init__(self, alpha: float, layers: range, target: Target) -> None:
        self._alpha, self._layers, self._target, self._places = alpha, layers, target, PlacesOf()

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        if step.is_start:
            require_image(PAI.name, step.layout)

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The last row of every sample's prompt (it stands at different places) and all that is generated."""
        if layer not in self._layers:
            return None
        places = self._places.at(step, call.query.device)
        raise_text = self._target == "text"
        keys = places.keys(places.text if raise_text else places.visual, call)[:, None, None]
        wanted = torch.arange(call.queries, device=keys.device) + call.offset >= places.end[:, None]
        rows = wanted.any(0).nonzero()[:, 0]

        def raised(block: Block) -> Tensor:
            chosen = keys & wanted[:, block.rows][:, None, :, None] & block.values.isfinite()
            return block.values + self._alpha * block.values.abs().masked_fill(~chosen, 0.0)

        return Edit(rows, scores=raised) if len(rows) else None
