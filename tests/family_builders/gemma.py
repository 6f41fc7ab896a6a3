"""Google's families: sliding windows in most layers, capped scores, image tokens that see each other both ways."""

from __future__ import annotations

import torch
from torch import nn

from .core import (
    AUDIO_ID,
    END_ID,
    IMAGE,
    IMAGE_ID,
    SIGLIP,
    START_ID,
    TEXT,
    VIDEO_ID,
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

LAYER_TYPES = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def build_gemma3() -> nn.Module:
    return from_config(
        "gemma3",
        text_config=text_sizes(
            "gemma3_text",
            num_hidden_layers=5,
            sliding_window=6,
            query_pre_attn_scalar=8,
            layer_types=LAYER_TYPES,
        ),
        vision_config={**SIGLIP, "image_size": 32},
        mm_tokens_per_image=4,
        boi_token_index=START_ID,
        eoi_token_index=END_ID,
        image_token_index=IMAGE_ID,
    )


def bracketed(sample: int, index: int) -> Row:
    return special(START_ID) + image(4) + special(END_ID)


def gemma3_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, bracketed), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 32, 32)
    inputs["token_type_ids"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[(2, 2)] * images] * batch)


def build_gemma4() -> nn.Module:
    return from_config(
        "gemma4",
        text_config=text_sizes(
            "gemma4_text",
            num_hidden_layers=5,
            sliding_window=6,
            layer_types=LAYER_TYPES,
            global_head_dim=16,
            num_global_key_value_heads=1,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
            vocab_size_per_layer_input=128,
            use_bidirectional_attention="vision",
        ),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 32,
        },
        audio_config=None,
        boi_token_id=START_ID,
        eoi_token_id=END_ID,
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
        audio_token_id=AUDIO_ID,
    )


PATCHES = [(4, 6), (6, 4), (4, 4)]
"""Rows and columns of patches before pooling two by two."""


def gemma4_case(batch: int, padding: str | None, images: int) -> Case:
    def grid(sample: int, index: int) -> tuple[int, int]:
        return PATCHES[(index if padding is None else sample + index) % len(PATCHES)]

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        return special(START_ID) + image(rows * columns // 4) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    grids = [[grid(sample, index) for index in range(images)] for sample in range(batch)]
    positions = torch.full((batch * images, 24, 2), -1)
    for place, (rows, columns) in zip(positions, (size for row in grids for size in row), strict=True):
        place[: rows * columns] = torch.tensor([(x, y) for y in range(rows) for x in range(columns)])
    inputs["image_position_ids"] = positions
    inputs["pixel_values"] = torch.rand(batch * images, 24, 3 * 4 * 4)
    inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[(rows // 2, columns // 2) for rows, columns in row] for row in grids])


def build_paligemma() -> nn.Module:
    return from_config(
        "paligemma",
        text_config=text_sizes("gemma"),
        vision_config={**SIGLIP, "projection_dim": 32},
        projection_dim=32,
        image_token_index=IMAGE_ID,
    )


def build_paligemma2() -> nn.Module:
    return from_config(
        "paligemma",
        text_config=text_sizes("gemma2", sliding_window=6, query_pre_attn_scalar=8, attn_logit_softcapping=2.0),
        vision_config={**SIGLIP, "projection_dim": 32},
        projection_dim=32,
        image_token_index=IMAGE_ID,
    )


def paligemma_case(batch: int, padding: str | None, images: int) -> Case:
    """Images first and BOS after them; every prompt token is a prefix, seen both ways."""
    rows = []
    for sample in range(batch):
        extra = 3 * sample if padding else 0
        body = [(20 + place, TEXT) for place in range(7 + extra)]
        rows.append(image(9 * images) + special(1) + body)
    inputs, modality = write(rows, padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


FAMILIES = [
    Family("gemma3", build_gemma3, gemma3_case, tags=frozenset({"sliding", "bidirectional_images"})),
    Family("gemma4", build_gemma4, gemma4_case, tags=frozenset({"sliding", "bidirectional_images"})),
    Family("paligemma", build_paligemma, paligemma_case, tags=frozenset({"bidirectional_prefix"})),
    Family(
        "paligemma2", build_paligemma2, paligemma_case, tags=frozenset({"bidirectional_prefix", "softcap", "sliding"})
    ),
]
