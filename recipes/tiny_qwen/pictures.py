"""Scenes as the models see them: pictures of several sizes, and what stands before the words of a conversation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from build import TOKEN
from common.packed import Prefix
from PIL import Image
from torch import Tensor

from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, Scene

Grid = tuple[int, int]
"""Rows and columns of image tokens."""

SMALL, LARGE = (6, 6), (9, 9)
"""Pictures of 96 and of 144 pixels: two and three tokens a side for each cell of the scene."""

SHARES: dict[Grid, float] = {SMALL: 0.4, LARGE: 0.4} | dict.fromkeys(((7, 7), (8, 8), (6, 8), (8, 6)), 0.05)
"""Of training steps; each has pictures of one size."""

SIDES: dict[str, tuple[int, ...]] = {"small": (48, 48, 64, 96, 96, 96, 144), "other": (48, 96, 144, 144, 192)}
"""Sides in pixels at which a scene is drawn, before it is made as large as its grid."""


def draw_grid(rng: random.Random) -> Grid:
    """The size of one training step's pictures."""
    return rng.choices(list(SHARES), list(SHARES.values()))[0]


def picture(scene: Scene, side: int, grid: Grid) -> Image.Image:
    """The scene drawn at one size and made as large as its grid, as the image processor makes it."""
    rows, columns = grid
    image = render(scene, side)
    wanted = (columns * TOKEN, rows * TOKEN)
    return image if image.size == wanted else image.resize(wanted, Image.Resampling.BICUBIC)


def pictures(scenes: Sequence[Scene], grid: Grid, rng: random.Random | None = None) -> list[Image.Image]:
    """Pictures of the grid's size; without a generator each is drawn at that size."""
    sides = SIDES["small" if grid == SMALL else "other"]
    return [picture(scene, rng.choice(sides) if rng else max(grid) * TOKEN, grid) for scene in scenes]


def token_cells(grid: Grid) -> Tensor:
    """(tokens,): for each image token the cell of the scene's 3 x 3 grid in which its middle lies."""
    rows, columns = grid
    row = ((torch.arange(rows) + 0.5) * GRID / rows).long()
    column = ((torch.arange(columns) + 0.5) * GRID / columns).long()
    return (row[:, None] * GRID + column).flatten()


def token_labels(scenes: Sequence[Scene], grid: Grid) -> Tensor:
    """(scenes, tokens): index into KINDS of the object in the token's cell, len(KINDS) for none."""
    cells = torch.full((len(scenes), GRID * GRID), len(KINDS))
    for row, scene in enumerate(scenes):
        for item in scene.items:
            cells[row, item.cell] = KINDS.index(item.kind)
    return cells[:, token_cells(grid)]


def look(model: Any, image_processor: Any, images: Sequence[Image.Image]) -> tuple[Tensor, list[Tensor]]:
    """Image tokens (images, tokens, width) of pictures of one size; and DeepStack's additions, each of that shape."""
    inputs = image_processor(images=list(images), return_tensors="pt")
    seen = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], return_dict=True)
    added = getattr(seen, "deepstack_features", None) or []
    return seen.pooler_output.unflatten(0, (len(images), -1)), [part.unflatten(0, (len(images), -1)) for part in added]


def show(model: Any, image_processor: Any, head: Sequence[int], images: Sequence[Image.Image], grid: Grid) -> Prefix:
    """What stands before the words: the tokens before the image, then the image at its place in three dimensions."""
    tokens, added = look(model, image_processor, images)
    words = model.get_input_embeddings()(torch.tensor(head)).expand(len(images), -1, -1)
    rows, columns = grid
    start = len(head)
    before = torch.arange(start).expand(3, -1)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    place = torch.stack([torch.zeros(rows * columns, dtype=torch.long), row.flatten(), column.flatten()]) + start
    extra: dict[str, Any] = {}
    if added:
        is_image = torch.zeros(len(images), start + rows * columns, dtype=torch.bool)
        is_image[:, start:] = True
        extra = {"visual_pos_masks": is_image, "deepstack_visual_embeds": [part.flatten(0, 1) for part in added]}
    return Prefix(
        embeddings=torch.cat([words, tokens], dim=1),
        head=start,
        behind=start + max(grid),
        positions=torch.cat([before, place], dim=1),
        extra=extra,
    )
