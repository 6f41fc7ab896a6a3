"""AdaptVis: attention to the image made sharper or flatter by the model's own confidence (arXiv 2503.01773)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach, bypassed
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.scoring import PlacesOf, check_layers, require_image
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import is_static, without_cache


@register
@dataclass(frozen=True)
class AdaptVis(Method):
    """Scales the image's scores in the last row of the prompt, by how sure the untouched model is of its first token.

        c = max over y of p(y | prompt)
        e_j <- weak e_j  where c < threshold,  strong e_j  elsewhere                j image; last row of the prompt

    e: [batch, heads, 1, keys], scores before the softmax, in float32 beside the model's kernel; c is measured for each
    sample by a first pass over the prompt, run untouched and without a cache, so that a prompt costs two passes and a
    decoding step one. A factor below 1 flattens attention over the image, one above 1 sharpens it.

    Sign trap: as a factor on scores of either sign, `strong` lowers the attention to image tokens with negative scores
    and `weak` raises it; what changes for sure is the contrast between image tokens, not their share.
    """

    name: ClassVar[str] = "adaptvis"
    threshold: float = setting(0.4, "confidence in the first token below which `weak` is taken, 0 to 1")
    weak: float = setting(0.5, "factor on image scores of an unsure model, above 0")
    strong: float = setting(1.5, "factor on image scores of a sure model, above 0")
    layers: tuple[int, ...] | None = setting(None, "only these layers, as 2+3+4; by default all")

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold} in adaptvis: give a probability from 0 to 1.")
        for field in ("weak", "strong"):
            if not 0 < getattr(self, field) < inf:
                raise InputError(f"{field} is {getattr(self, field)} in adaptvis: give a factor above 0.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image or given in pieces.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        chosen = anatomy.attention_layers if self.layers is None else self.layers
        editor = _Sharpen(self, anatomy, check_layers(self.name, chosen, anatomy))
        is_idle = self.weak == self.strong == 1
        with nullcontext() if is_idle else attach(anatomy, editor=editor, layout=source):
            yield


class _Sharpen:
    def __init__(self, method: AdaptVis, anatomy: Anatomy, layers: frozenset[int]) -> None:
        self._method, self._anatomy, self._layers = method, anatomy, layers
        self._places, self._factor = PlacesOf(), torch.ones(0)

    def begin(self, step: ForwardPass) -> None:
        """At a prompt's start: how sure is the untouched model?"""
        if step.is_start:
            require_image(AdaptVis.name, step.layout)
            sure = self._confidence(step) >= self._method.threshold
            self._factor = torch.where(sure, self._method.strong, self._method.weak)
        elif not step.is_decoding:
            raise InputError("adaptvis needs the whole prompt in one pass: leave prefill_chunk_size out.")

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The last row of the prompt; with padding on the right it stands at different places."""
        if layer not in self._layers or (step.is_decoding and step.offset):
            return None
        places = self._places.at(step, call.query.device)
        image = places.keys(places.visual, call)[:, None, None]
        wanted = torch.arange(call.queries, device=image.device) + call.offset == places.end[:, None]
        factor = self._factor.to(image.device)[:, None, None, None]

        def scaled(block: Block) -> Tensor:
            chosen = image & wanted[:, block.rows][:, None, :, None]
            return torch.where(chosen, block.values * factor, block.values)

        return Edit(wanted.any(0).nonzero()[:, 0], scores=scaled)

    def _confidence(self, step: ForwardPass) -> Tensor:
        """[batch], probability of the likeliest first token, from the prompt's last position."""
        if is_static(step.cache):
            raise InputError("adaptvis runs the prompt twice: call generate without a static cache_implementation.")
        dropped = ("use_cache", "labels", "logits_to_keep", "return_dict")
        inputs = {name: value for name, value in without_cache(step.inputs).items() if name not in dropped}
        # The prompt as it was given: another method may have shortened that of this step.
        ids, mask = step.inputs["input_ids"], step.inputs.get("attention_mask")
        present = torch.ones_like(ids) if mask is None else mask
        end = torch.where(present.bool().cpu(), torch.arange(ids.shape[1]), -1).amax(1)
        kept, index = torch.unique(end, return_inverse=True)
        with bypassed(self._anatomy), torch.no_grad():
            logits = self._anatomy.model(
                **inputs, use_cache=False, logits_to_keep=kept.to(self._anatomy.model.device)
            ).logits
        last: Tensor = logits[torch.arange(len(index)), index.to(logits.device)].float()
        likeliest: Tensor = last.softmax(-1).amax(-1)
        return likeliest.cpu()
