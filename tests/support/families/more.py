"""Families that no rule was written for: they show that a new one simply works."""

from __future__ import annotations

import torch

from .core import (
    BREAK_ID,
    END_ID,
    START_ID,
    TAG_ID,
    Case,
    Family,
    Row,
    image,
    prompts,
    special,
    write,
)
from .llava import square_case
from .qwen import grid_case


def tile_case(batch: int, padding: str | None, images: int) -> Case:
    """Two tiles of an image and a view of it all, each behind a tag of its own, two by two tokens each."""

    def block(sample: int, index: int) -> Row:
        tiles = [special(TAG_ID + tile) + image(4) for tile in range(3)]
        return special(START_ID) + [item for tile in tiles for item in tile] + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["pixel_values"] = torch.randn(batch * images * 3, 3, 32, 32)
    return Case(inputs, modality, [[(2, 2)] * 3 * images] * batch)


def got_ocr2_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(16)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 64, 64)
    return Case(inputs, modality, [[(4, 4)] * images] * batch)


def lfm2_vl_case(batch: int, padding: str | None, images: int) -> Case:
    """Images of their own shape as padded lists of patches."""
    shapes = [(4, 6), (2, 4), (6, 2)]

    def shape(sample: int, index: int) -> tuple[int, int]:
        return shapes[(index if padding is None else sample + index) % 3]

    def merged(sample: int, index: int) -> tuple[int, int]:
        rows, columns = shape(sample, index)
        return rows // 2, columns // 2

    def block(sample: int, index: int) -> Row:
        rows, columns = merged(sample, index)
        return special(START_ID) + image(rows * columns) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [shape(sample, index) for sample in range(batch) for index in range(images)]
    mask = torch.zeros(len(every), 24, dtype=torch.long)
    for row, (rows, columns) in zip(mask, every, strict=True):
        row[: rows * columns] = 1
    inputs["pixel_values"] = torch.randn(len(every), 24, 3 * 4 * 4)
    inputs["pixel_attention_mask"] = mask
    inputs["spatial_shapes"] = torch.tensor(every)
    return Case(inputs, modality, [[merged(sample, index) for index in range(images)] for sample in range(batch)])


def fuyu_case(batch: int, padding: str | None, images: int) -> Case:
    """An image is a list of patches, and every line of them ends in a newline token."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: (image(3) + special(BREAK_ID)) * 2), padding)
    inputs["pixel_values"] = torch.randn(batch, 6 * images, 3 * 4 * 4)
    return Case(inputs, modality, [[(2, 3)] * images] * batch)


def video_llama_3_case(batch: int, padding: str | None, images: int) -> Case:
    case = grid_case(batch, padding, images, types=False)
    count = len(case.inputs["image_grid_thw"])
    case.inputs["image_merge_sizes"] = torch.full((count,), 2)
    case.inputs["pixel_values"] = torch.randn(len(case.inputs["pixel_values"]), 3 * 4 * 4)
    return case


def chameleon_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 6, 6)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


def lighton_case(batch: int, padding: str | None, images: int) -> Case:
    """Images of their own shape, without break tokens."""
    sizes = [(16, 24), (24, 16), (16, 16)]

    def size(sample: int, index: int) -> tuple[int, int]:
        return sizes[(index if padding is None else sample + index) % 3]

    def grid(sample: int, index: int) -> tuple[int, int]:
        height, width = size(sample, index)
        return height // 8, width // 8

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        return image(rows * columns)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [size(sample, index) for sample in range(batch) for index in range(images)]
    inputs["pixel_values"] = torch.randn(len(every), 3, max(h for h, _ in every), max(w for _, w in every))
    inputs["image_sizes"] = torch.tensor(every)
    return Case(inputs, modality, [[grid(sample, index) for index in range(images)] for sample in range(batch)])


FAMILIES = [
    Family("aya_vision", tile_case, tags=frozenset({"sliding"})),
    Family("cohere2_vision", tile_case, tags=frozenset({"sliding"})),
    Family("glm4v", grid_case),
    Family("got_ocr2", got_ocr2_case),
    Family("lfm2_vl", lfm2_vl_case, layers_without_attention=(0, 2, 4)),
    Family("llama4", tile_case, tags=frozenset({"chunked"})),
    Family("ovis2", square_case),
    Family("fuyu", fuyu_case, tags=frozenset({"no_tower"})),
    Family("janus", square_case),
    Family("deepseek_vl", square_case),
    Family("video_llama_3", video_llama_3_case),
    Family("chameleon", chameleon_case, tags=frozenset({"no_projector"})),
    Family("lighton_ocr", lighton_case),
]
