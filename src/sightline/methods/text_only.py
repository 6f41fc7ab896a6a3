"""The prompt without its image, as a second pass: image tokens are cut out, and the text moves together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.methods.scoring import VISUAL, require_image
from sightline.models.layout import Modality, TokenLayout
from sightline.models.transformers_api.cache import CACHE_NAMES

_FLAGS = ("use_cache", "return_dict", "logits_to_keep", *CACHE_NAMES)


class TextOnly:
    """The change (see `sightline.methods.second_pass`) that leaves a prompt's images out.

    Text keeps its order, the markers around an image included, and its positions are counted anew; prompts that are
    then shorter than others of their batch are padded on the left.
    """

    least_shared = 0

    def __init__(self, name: str, layout: TokenLayout) -> None:
        require_image(name, layout)
        if bool(layout.mask(Modality.AUDIO).any()):
            raise InputError(f"{name} reads the prompt without its images and can't do so beside sound: leave it out.")
        self._keep = ~layout.mask(*VISUAL, Modality.PADDING)
        self._mask = torch.zeros(0, 0)

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Ids, mask and positions of the text alone, one row a sample; no features."""
        ids: Tensor = inputs["input_ids"]
        keep = torch.nn.functional.pad(self._keep, (0, ids.shape[1] - self._keep.shape[1]), value=True).to(ids.device)
        # A stable sort puts what is left out in front and keeps the order of the rest.
        order = keep.long().argsort(dim=1, stable=True)[:, -int(keep.sum(1).max()) :]
        self._mask = keep.gather(1, order).long()
        beside = {
            name: value.gather(1, order) * self._mask
            for name, value in inputs.items()
            if isinstance(value, Tensor) and value.shape == ids.shape and not value.is_floating_point()
        }
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        return {**beside, **self._flags(inputs), **self._placed(inputs, self._mask, positions)}

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """The generated token, behind the text alone."""
        ids: Tensor = inputs["input_ids"]
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        mask = self._mask.repeat_interleave(repeats, 0)
        beside = {
            name: value for name, value in inputs.items() if isinstance(value, Tensor) and value.shape == ids.shape
        }
        return {**beside, **self._flags(inputs), **self._placed(inputs, mask, mask.sum(1, keepdim=True) - 1)}

    def _flags(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: inputs[name] for name in _FLAGS if name in inputs}

    def _placed(self, inputs: dict[str, Any], mask: Tensor, positions: Tensor) -> dict[str, Any]:
        """Mask and positions; text alone stands at one position in all dimensions of a three-dimensional model."""
        given = inputs.get("position_ids")
        if isinstance(given, Tensor) and given.dim() == 3:
            positions = positions.expand(given.shape[0], -1, -1)
        return {"attention_mask": mask, "position_ids": positions}
