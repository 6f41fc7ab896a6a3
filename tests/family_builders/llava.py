"""LLaVA and its kin: a CLIP-like tower, a projector, and a decoder that is given one token a patch."""

from __future__ import annotations

import torch
from torch import nn

from .core import (
    CLIP,
    IMAGE,
    IMAGE_ID,
    SIGLIP,
    VIDEO,
    VIDEO_ID,
    Case,
    Family,
    Row,
    from_config,
    image,
    prompts,
    text_sizes,
    video,
    write,
)

PINPOINTS = [[24, 48], [48, 24], [48, 48]]
"""Resolutions an image may be cut up at, (height, width); one tile is 24 by 24, three by three patches."""

LAST_BUT_ONE = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}


def build_llava() -> nn.Module:
    return from_config(
        "llava", text_config=text_sizes("llama"), vision_config=CLIP, image_token_index=IMAGE_ID, **LAST_BUT_ONE
    )


def build_vipllava() -> nn.Module:
    return from_config(
        "vipllava",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        vision_feature_layers=[-1, -2],
    )


def square_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


def build_llava_next() -> nn.Module:
    return from_config(
        "llava_next",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        image_grid_pinpoints=PINPOINTS,
        **LAST_BUT_ONE,
    )


def build_llava_onevision() -> nn.Module:
    return from_config(
        "llava_onevision",
        text_config=text_sizes("qwen2"),
        vision_config=SIGLIP,
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )


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


def build_video_llava() -> nn.Module:
    return from_config(
        "video_llava",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        **LAST_BUT_ONE,
    )


def video_llava_image_case(batch: int, padding: str | None, images: int) -> Case:
    case = square_case(batch, padding, images)
    case.inputs["pixel_values_images"] = case.inputs.pop("pixel_values")
    return case


FAMILIES = [
    Family("llava", build_llava, square_case, IMAGE),
    Family("vipllava", build_vipllava, square_case, IMAGE),
    Family("llava_next", build_llava_next, anyres_case, IMAGE),
    Family("llava_onevision", build_llava_onevision, anyres_case, IMAGE),
    Family("llava_onevision_video", build_llava_onevision, onevision_video_case, VIDEO),
    Family("video_llava", build_video_llava, video_llava_image_case, IMAGE),
]
