"""AdaptVis: attention to the image made sharper or flatter by the model's own confidence (arXiv 2503.01773)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention import ForwardPass, bypassed
from sightline.errors import InputError
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting
from sightline.methods.scoring import check_layers
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import is_static, without_cache


@register
@dataclass(frozen=True)
class AdaptVis(AttentionEdit):
    """Scales the image's scores in the last row of the prompt, by how sure the untouched model is of its first token.

        c = max over y of p(y | prompt)
        e_j <- weak e_j  where c < threshold,  strong e_j  elsewhere                j image; last row of the prompt

    e: [batch, heads, 1, keys], scores before the softmax, in float32 beside the model's kernel; c is measured for each
    sample by a first pass over the prompt, run untouched and without a cache, so that a prompt costs two passes and a
    decoding step one. A factor below 1 flattens attention over the image, one above 1 sharpens it. The public code
    rounds c to two decimals first, so that 0.395 counts as 0.4; and acts in the first 32 layers of deeper models.

    Sign trap: as a factor on scores of either sign, `strong` lowers the attention to image tokens with negative scores
    and `weak` raises it; what changes for sure is the contrast between image tokens, not their share.
    """

    name: ClassVar[str] = "adaptvis"
    rows: ClassVar[Rows] = "last of the prompt"
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

    @property
    def is_idle(self) -> bool:
        """Factors of 1 change nothing."""
        return self.weak == self.strong == 1

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on in this model."""
        return check_layers(self.name, anatomy.attention_layers if self.layers is None else self.layers, anatomy)

    def at_prompt(self, anatomy: Anatomy, step: ForwardPass) -> Float[Tensor, "batch 1 1 1"]:
        """Each sample's factor, by how sure the untouched model is."""
        sure = _confidence(anatomy, step) >= self.threshold
        return torch.where(sure, self.strong, self.weak)[:, None, None, None]

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The image's scores times the sample's factor."""
        return torch.where(keys.image, values * keys.known.to(values.device), values)


def _confidence(anatomy: Anatomy, step: ForwardPass) -> Float[Tensor, " batch"]:
    """Probability of the likeliest first token, from the prompt's last position."""
    if is_static(step.cache):
        raise InputError("adaptvis runs the prompt twice: call generate without a static cache_implementation.")
    dropped = ("use_cache", "labels", "logits_to_keep", "return_dict")
    inputs = {name: value for name, value in without_cache(step.inputs).items() if name not in dropped}
    # The prompt as it was given: another method may have shortened that of this step.
    ids, mask = step.inputs["input_ids"], step.inputs.get("attention_mask")
    present = torch.ones_like(ids) if mask is None else mask
    end = torch.where(present.bool().cpu(), torch.arange(ids.shape[1]), -1).amax(1)
    kept, index = torch.unique(end, return_inverse=True)
    with bypassed(anatomy), torch.no_grad():
        logits = anatomy.model(**inputs, use_cache=False, logits_to_keep=kept.to(anatomy.model.device)).logits
    last: Tensor = logits[torch.arange(len(index)), index.to(logits.device)].float()
    likeliest: Tensor = last.softmax(-1).amax(-1)
    return likeliest.cpu()
