"""Qwen's families: image grids in the inputs, patches merged two by two, positions in three dimensions."""

from __future__ import annotations

from functools import partial

import torch

from .core import (
    AUDIO,
    END_ID,
    IMAGE,
    START_ID,
    VIDEO,
    Case,
    Family,
    Row,
    audio,
    image,
    prompts,
    special,
    token_types,
    video,
    write,
)

GRIDS = [(4, 6), (6, 4), (4, 4), (2, 6)]
"""Rows and columns of patches before merging, by sample and image in turn."""


def grid_case(batch: int, padding: str | None, images: int, types: bool = True) -> Case:
    """Images of several shapes in one batch, as `image_grid_thw` tells them."""

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
    if types:
        inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1, VIDEO: 2})
    return Case(inputs, modality, [[(rows // 2, columns // 2) for rows, columns in row] for row in grids])


def video_case(batch: int, padding: str | None, images: int, stamps: bool = False) -> Case:
    """Videos of three temporal patches; with `stamps`, each frame is a run of its own behind a time in text."""
    frames, (rows, columns) = 3, (4, 6)
    tokens = rows * columns // 4

    def block(sample: int, index: int) -> Row:
        if stamps:
            return [
                part
                for frame in range(frames)
                for part in special(50 + frame, START_ID) + video(tokens) + special(END_ID)
            ]
        return special(START_ID) + video(frames * tokens) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block, bos=False), padding)
    count = batch * images
    inputs["video_grid_thw"] = torch.tensor([[frames, rows, columns]] * count)
    inputs["pixel_values_videos"] = torch.randn(count * frames * rows * columns, 3 * 2 * 4 * 4)
    inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1, VIDEO: 2})
    return Case(inputs, modality, [[(rows // 2, columns // 2)] * frames * images] * batch)


def audio_case(batch: int, padding: str | None, images: int) -> Case:
    """Clips of 40 mel frames, of which the encoder makes 20 and its pooling 10 tokens; the second is shorter."""
    tokens = [10, 10] if padding is None else [10, 7]

    def block(sample: int, index: int) -> Row:
        return special(START_ID) + audio(tokens[(sample + index) % 2]) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["input_features"] = torch.randn(batch * images, 8, 40)
    mask = torch.zeros(batch * images, 40, dtype=torch.long)
    for row, (sample, index) in zip(mask, ((s, i) for s in range(batch) for i in range(images)), strict=True):
        row[: tokens[(sample + index) % 2] * 4] = 1
    inputs["feature_attention_mask"] = mask
    return Case(inputs, modality)


FAMILIES = [
    Family("qwen2_vl", grid_case),
    Family("qwen2_5_vl", grid_case),
    Family("qwen2_5_vl_video", video_case, VIDEO, recipe="qwen2_5_vl"),
    Family("qwen3_vl", grid_case),
    Family("qwen3_vl_video", partial(video_case, stamps=True), VIDEO, recipe="qwen3_vl"),
    Family("qwen3_vl_moe", grid_case),
    Family("qwen3_5", grid_case, layers_without_attention=(0, 2, 4)),
    Family("qwen2_audio", audio_case, AUDIO),
    Family("qwen2_5_omni_thinker", partial(grid_case, types=False)),
]
