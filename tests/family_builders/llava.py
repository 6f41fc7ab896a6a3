"""LLaVA and its kin: a CLIP-like tower, a projector, and a decoder that is given one token a patch."""

from __future__ import annotations

import torch
from torch import nn

from .core import CLIP, IMAGE, IMAGE_ID, Case, Family, from_config, image, prompts, text_sizes, write


def build_llava() -> nn.Module:
    return from_config(
        "llava",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def llava_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


FAMILIES = [Family("llava", build_llava, llava_case, IMAGE)]
