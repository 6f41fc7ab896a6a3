"""Qwen's families: image grids in the inputs, patches merged two by two, positions in three dimensions."""

from __future__ import annotations

import torch
from torch import nn

from .core import (
    END_ID,
    IMAGE,
    IMAGE_ID,
    START_ID,
    VIDEO,
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

GRIDS = [(4, 6), (6, 4), (4, 4), (2, 6)]
"""Rows and columns of patches before merging, by sample and image in turn."""

MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
TOKENS = {
    "image_token_id": IMAGE_ID,
    "video_token_id": VIDEO_ID,
    "vision_start_token_id": START_ID,
    "vision_end_token_id": END_ID,
}
VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def build_qwen2_5_vl() -> nn.Module:
    return from_config(
        "qwen2_5_vl",
        text_config=text_sizes("qwen2_5_vl_text", rope_parameters=MROPE),
        vision_config={**VISION, "model_type": "qwen2_5_vl_vision", "window_size": 16, "fullatt_block_indexes": [1]},
        **TOKENS,
    )


def grid_case(batch: int, padding: str | None, images: int) -> Case:
    def grid(sample: int, index: int) -> tuple[int, int]:
        return GRIDS[(index if padding is None else sample + index) % len(GRIDS)]

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        return special(START_ID) + image(rows * columns // 4) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block, bos=False), padding)
    grids = [[grid(sample, index) for index in range(images)] for sample in range(batch)]
    inputs["image_grid_thw"] = torch.tensor([[1, *size] for row in grids for size in row])
    patches = sum(rows * columns for row in grids for rows, columns in row)
    inputs["pixel_values"] = torch.randn(patches, 3 * 2 * 4 * 4)
    inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1, VIDEO: 2})
    return Case(inputs, modality, [[(rows // 2, columns // 2) for rows, columns in row] for row in grids])


FAMILIES = [Family("qwen2_5_vl", build_qwen2_5_vl, grid_case)]
