"""Families whose image tokens are learned queries, each of which sees the whole image: they have no patch grid."""

from __future__ import annotations

import torch

from .core import IMAGE, Case, Family, image, prompts, token_types, write


def aria_case(batch: int, padding: str | None, images: int) -> Case:
    """Four learned queries an image: as many as two by two patches would be, and no patches."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(4)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    inputs["pixel_mask"] = torch.ones(batch * images, 24, 24, dtype=torch.bool)
    return Case(inputs, modality, [[]] * batch)


def kosmos2_case(batch: int, padding: str | None, images: int) -> Case:
    """Image positions are marked by a mask of their own, and hold ordinary ids."""
    inputs, modality = write(prompts(batch, padding, 1, lambda *_: image(4, token=7)), padding)
    inputs["pixel_values"] = torch.randn(batch, 3, 24, 24)
    inputs["image_embeds_position_mask"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[]] * batch)


def blip2_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, 1, lambda *_: image(4)), padding)
    inputs["pixel_values"] = torch.randn(batch, 3, 24, 24)
    return Case(inputs, modality, [[]] * batch)


def instructblip_case(batch: int, padding: str | None, images: int) -> Case:
    case = blip2_case(batch, padding, images)
    case.inputs["qformer_input_ids"] = torch.randint(10, 100, (batch, 5))
    case.inputs["qformer_attention_mask"] = torch.ones(batch, 5, dtype=torch.long)
    return case


FAMILIES = [
    Family("aria", aria_case),
    Family("kosmos2", kosmos2_case, max_images=1),
    Family("blip2", blip2_case, max_images=1),
    Family("instructblip", instructblip_case, max_images=1),
]
