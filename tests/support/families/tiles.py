"""Families that cut an image into tiles or keep its own shape: InternVL, Idefics, SmolVLM, Pixtral, Mistral 3."""

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


def idefics3_case(batch: int, padding: str | None, images: int) -> Case:
    """Each image in 1 x 2 tiles and a global view behind them, each between markers; two tiles and a view of 2 x 2."""
    fake, tag, view = START_ID, TAG_ID, END_ID

    def block(sample: int, index: int) -> Row:
        tiles: Row = []
        if padding is None or (sample + index) % 2 == 0:
            for tile in range(2):
                tiles += special(fake, tag + tile) + image(4)
            tiles += special(30, 30)
        return tiles + special(fake, view) + image(4) + special(fake)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    counts = [sum(kind == 2 for kind in row) // 4 for row in modality]
    pixels = torch.zeros(batch, max(counts), 3, 32, 32)
    for row, count in zip(pixels, counts, strict=True):
        row[:count] = torch.randn(count, 3, 32, 32)
    inputs["pixel_values"] = pixels
    inputs["pixel_attention_mask"] = torch.ones(batch, max(counts), 32, 32, dtype=torch.bool)
    return Case(inputs, modality, [[(2, 2)] * count for count in counts])


def idefics2_case(batch: int, padding: str | None, images: int) -> Case:
    """Four latents an image, each of which sees all of it: they have no grid."""

    def block(sample: int, index: int) -> Row:
        return special(START_ID) + image(4) + special(START_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["pixel_values"] = torch.randn(batch, images, 3, 32, 32)
    inputs["pixel_attention_mask"] = torch.ones(batch, images, 32, 32, dtype=torch.bool)
    return Case(inputs, modality, [[]] * batch)


def internvl_case(batch: int, padding: str | None, images: int) -> Case:
    """Images of one tile, or of two tiles and a thumbnail, their tokens in one run: 9 tokens a tile."""

    def tiles(sample: int, index: int) -> int:
        return 1 if (padding is not None and (sample + index) % 2) else 3

    def block(sample: int, index: int) -> Row:
        return special(START_ID) + image(9 * tiles(sample, index)) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    counts = [[tiles(sample, index) for index in range(images)] for sample in range(batch)]
    inputs["pixel_values"] = torch.randn(sum(map(sum, counts)), 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * sum(row) for row in counts])


SIZES = [(16, 24), (24, 16), (16, 16)]
"""Heights and widths of images in pixels."""


def rows_case(batch: int, padding: str | None, images: int, merge: int) -> Case:
    """Each row of patches is followed by a break token, the last by an end token."""

    def size(sample: int, index: int) -> tuple[int, int]:
        return SIZES[(index if padding is None else sample + index) % len(SIZES)]

    def grid(sample: int, index: int) -> tuple[int, int]:
        height, width = size(sample, index)
        return height // (4 * merge), width // (4 * merge)

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        lines = [image(columns) + special(BREAK_ID)] * (rows - 1) + [image(columns) + special(END_ID)]
        return [item for line in lines for item in line]

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    sizes = [size(sample, index) for sample in range(batch) for index in range(images)]
    height, width = (max(side) for side in zip(*sizes, strict=True))
    inputs["pixel_values"] = torch.randn(len(sizes), 3, height, width)
    inputs["image_sizes"] = torch.tensor(sizes)
    return Case(inputs, modality, [[grid(sample, index) for index in range(images)] for sample in range(batch)])


def mistral3_case(batch: int, padding: str | None, images: int) -> Case:
    return rows_case(batch, padding, images, merge=2)


def pixtral_case(batch: int, padding: str | None, images: int) -> Case:
    return rows_case(batch, padding, images, merge=1)


FAMILIES = [
    Family("idefics3", idefics3_case),
    Family("smolvlm", idefics3_case),
    Family("idefics2", idefics2_case),
    Family("internvl", internvl_case),
    Family("mistral3", mistral3_case),
    Family("pixtral", pixtral_case),
]
