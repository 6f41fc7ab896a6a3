"""Google's families: sliding windows in most layers, capped scores, image tokens that see each other both ways."""

from __future__ import annotations

import torch

from .core import (
    END_ID,
    IMAGE,
    START_ID,
    TEXT,
    Case,
    Family,
    Row,
    image,
    prompts,
    special,
    token_types,
    write,
)


def bracketed(sample: int, index: int) -> Row:
    return special(START_ID) + image(4) + special(END_ID)


def gemma3_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, bracketed), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 32, 32)
    inputs["token_type_ids"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[(2, 2)] * images] * batch)


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
    Family("gemma3", gemma3_case, tags=frozenset({"sliding", "bidirectional_images"})),
    Family("gemma4", gemma4_case, tags=frozenset({"sliding", "bidirectional_images"})),
    Family("paligemma", paligemma_case, tags=frozenset({"bidirectional_prefix"})),
    Family("paligemma2", paligemma_case, tags=frozenset({"bidirectional_prefix", "softcap", "sliding"})),
]
