"""Gemma's families: sliding windows in most layers, and image tokens that see each other both ways."""

from __future__ import annotations

import torch
from torch import nn

from .core import (
    END_ID,
    IMAGE,
    IMAGE_ID,
    SIGLIP,
    START_ID,
    Case,
    Family,
    Row,
    from_config,
    image,
    prompts,
    special,
    text_sizes,
    token_types,
    write,
)


def build_gemma3() -> nn.Module:
    return from_config(
        "gemma3",
        text_config=text_sizes(
            "gemma3_text",
            num_hidden_layers=5,
            sliding_window=6,
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 1
            + ["sliding_attention", "full_attention"],
        ),
        vision_config={**SIGLIP, "image_size": 32},
        mm_tokens_per_image=4,
        boi_token_index=START_ID,
        eoi_token_index=END_ID,
        image_token_index=IMAGE_ID,
    )


def gemma3_case(batch: int, padding: str | None, images: int) -> Case:
    def block(sample: int, index: int) -> Row:
        return special(START_ID) + image(4) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 32, 32)
    inputs["token_type_ids"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[(2, 2)] * images] * batch)


FAMILIES = [Family("gemma3", build_gemma3, gemma3_case, tags=frozenset({"sliding", "bidirectional_images"}))]
