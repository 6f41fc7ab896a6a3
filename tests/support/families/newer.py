"""More families that no rule was written for: omni models, sound, lists of patches, class tokens, video frames."""

from __future__ import annotations

from functools import partial

import torch

from .core import (
    AUDIO,
    END_ID,
    START_ID,
    VIDEO,
    Case,
    Family,
    Row,
    audio,
    image,
    prompts,
    special,
    video,
    write,
)
from .qwen import grid_case


def class_token_case(batch: int, padding: str | None, images: int) -> Case:
    """The tower's class token stands in front of the nine patches."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(10)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


def frames_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: video(3 * 9)), padding)
    inputs["pixel_values_videos"] = torch.randn(batch * images, 3, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * 3 * images] * batch)


def minicpmv_case(batch: int, padding: str | None, images: int) -> Case:
    """All patches of all images in one list; four by four become a token."""
    sizes = [(8, 12), (12, 8), (8, 8)]

    def size(sample: int, index: int) -> tuple[int, int]:
        return sizes[(index if padding is None else sample + index) % 3]

    def block(sample: int, index: int) -> Row:
        rows, columns = size(sample, index)
        return special(START_ID) + image(rows * columns // 16) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [size(sample, index) for sample in range(batch) for index in range(images)]
    inputs["target_sizes"] = torch.tensor(every, dtype=torch.int32)
    inputs["pixel_values"] = torch.randn(1, 3, 4, 4 * sum(rows * columns for rows, columns in every))
    grids = [[size(sample, index) for index in range(images)] for sample in range(batch)]
    return Case(inputs, modality, [[(rows // 4, columns // 4) for rows, columns in row] for row in grids])


def voxtral_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: audio(5)), padding)
    inputs["input_features"] = torch.randn(batch * images, 8, 40)
    return Case(inputs, modality)


FAMILIES = [
    Family("llava_with_class_token", class_token_case),
    Family("llava_next_video", frames_case, VIDEO),
    Family("qwen3_omni_moe_thinker", partial(grid_case, types=False)),
    Family("minicpmv4_6", minicpmv_case),
    Family("voxtral", voxtral_case, AUDIO),
]
