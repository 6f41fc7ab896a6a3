"""Images cut up at one of several resolutions, as LLaVA-NeXT and LLaVA-OneVision do: "anyres".

An image's tokens are a base grid of the whole image, then a finer grid of the tiles put back together, from which
the rows or columns of padding are cut and after each row of which stands a newline token.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from torch import Tensor

from sightline.models.layout.patches import Grids, Media, PatchGrid
from sightline.models.transformers_api.loading import best_resolution


def from_resolutions(media: Media) -> Grids | None:
    """Grids from `image_sizes` in the inputs and `image_grid_pinpoints` in the configuration: base, then fine."""
    sizes, resolutions = media.tensor("image_sizes"), media.config("image_grid_pinpoints")
    image, patch = media.side("image_size"), media.side("patch_size")
    if sizes is None or not resolutions or not image or not patch:
        return None
    side = int(image // patch * _downsampled(media))
    fine = [_fine_grid(size, resolutions, image, side, media) for size in sizes.tolist()]
    for index, alone in enumerate(_stands_alone(media, len(fine))):
        if not alone:
            fine[index] = (0, 0)
    for newline in (1, 0):
        counts = [side**2 + (rows * (columns + newline) if rows else newline) for rows, columns in fine]
        dealt = media.share(counts)
        if dealt is not None:
            return [
                [
                    grid
                    for index, (item, tokens) in enumerate(mine)
                    for grid in _grids(media, index, tokens, side, fine[item], newline)
                ]
                for mine in dealt
            ]
    return None


def _grids(media: Media, index: int, tokens: Tensor, side: int, fine: tuple[int, int], newline: int) -> list[PatchGrid]:
    base = PatchGrid(media.kind, index, tokens[: side**2].reshape(side, side))
    rows, columns = fine
    if not rows:
        return [base]
    lines = tokens[side**2 :].reshape(rows, columns + newline)
    return [base, PatchGrid(media.kind, index, lines[:, :columns])]


def _downsampled(media: Media) -> Fraction:
    """Tokens a patch along a side, as "1/2": where queries each see a window of patches."""
    rate = media.config("downsample_rate")
    return Fraction(rate) if isinstance(rate, str) else Fraction(1)


def _stands_alone(media: Media, images: int) -> list[bool]:
    """Whether each image is the only one of its sample; where the inputs show it, images in company are not cut up."""
    given = media.tensor("batch_num_images")
    if given is None:
        return [True] * images
    return [count == 1 for count in given.tolist() for _ in range(count)]


def _fine_grid(size: list[int], resolutions: list[Any], tile: int, side: int, media: Media) -> tuple[int, int]:
    """Rows and columns of the fine grid of an image of (height, width) pixels, after its padding is cut away."""
    height, width = (int(length) for length in size)
    best_height, best_width = best_resolution((height, width), resolutions)
    rows, columns = best_height // tile * side, best_width // tile * side
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    limit = re.fullmatch(r"anyres_max_(\d+)", str(media.config("vision_aspect_ratio")))
    ratio = math.sqrt(rows * columns / (int(limit[1]) * side**2)) if limit else 0.0
    return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)
