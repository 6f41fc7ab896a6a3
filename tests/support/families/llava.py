"""LLaVA and its kin: a CLIP-like tower, a projector, and a decoder that is given one token a patch."""

from __future__ import annotations

import torch

from .core import (
    IMAGE,
    VIDEO,
    Case,
    Family,
    Row,
    image,
    prompts,
    video,
    write,
)


def square_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


# (height, width) of an image, the tiles it is cut into, and the rows and columns left when the padding is cut away:
# 40 x 80 best fits 24 x 48, scaled to 24 x 48, nothing to cut; 40 x 60 fits 48 x 48, scaled to 32 x 48: of 6 rows of
# patches, 1 is cut at the top and 1 at the bottom; 60 x 20 fits 48 x 24, scaled to 48 x 16: of 3 columns, 2 * 0 are.
ANYRES = [((40, 80), 2, (3, 6)), ((40, 60), 4, (4, 6)), ((60, 20), 2, (6, 3))]


def anyres_case(batch: int, padding: str | None, images: int) -> Case:
    def chosen(sample: int, index: int) -> tuple[tuple[int, int], int, tuple[int, int]]:
        return ANYRES[(index if padding is None else sample + index) % len(ANYRES)]

    def block(sample: int, index: int) -> Row:
        rows, columns = chosen(sample, index)[2]
        return image(9 + rows * (columns + 1))

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [chosen(sample, index) for sample in range(batch) for index in range(images)]
    tiles = max(tiles for _, tiles, _ in every) + 1
    pixels = torch.randn(len(every), tiles, 3, 24, 24)
    for row, (_, count, _) in zip(pixels, every, strict=True):
        row[count + 1 :] = 0
    inputs["pixel_values"] = pixels
    inputs["image_sizes"] = torch.tensor([size for size, _, _ in every])
    grids = [
        [grid for index in range(images) for grid in ((3, 3), chosen(sample, index)[2])] for sample in range(batch)
    ]
    return Case(inputs, modality, grids)


def onevision_video_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: video(3 * 4 + 1)), padding)
    inputs["pixel_values_videos"] = torch.randn(batch * images, 3, 3, 24, 24)
    return Case(inputs, modality, [[(2, 2)] * 3 * images] * batch)


def video_llava_image_case(batch: int, padding: str | None, images: int) -> Case:
    case = square_case(batch, padding, images)
    case.inputs["pixel_values_images"] = case.inputs.pop("pixel_values")
    return case


FAMILIES = [
    Family("llava", square_case, IMAGE),
    Family("vipllava", square_case, IMAGE),
    Family("llava_next", anyres_case, IMAGE),
    Family("llava_onevision", anyres_case, IMAGE),
    Family("llava_onevision_video", onevision_video_case, VIDEO, recipe="llava_onevision"),
    Family("video_llava", video_llava_image_case, IMAGE),
]
