"""The patches that a vision tower runs on: where each lies, which token of the decoder shows it, blocks of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.hooks import Hooks
from sightline.errors import InputError
from sightline.knockout.logits import row_logits
from sightline.knockout.source import Source
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import image_tower
from sightline.models.layout import PatchGrid, TokenLayout


@dataclass(frozen=True)
class Patch:
    """One token of the tower: its number among all, and where it lies. token: the decoder's, that shows it."""

    number: int
    crop: int
    row: int | None
    col: int | None
    token: int | None = None


def find_patches(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layout: TokenLayout,
    sizes: Sequence[int],
    others: frozenset[int] = frozenset(),
) -> list[Patch]:
    """The patches that the tower runs on, in its order.

    sizes: the tower's tokens by crop or image. others: tokens that are no patches (class tokens, registers).

    Rows and columns come from the image grids in the inputs, by which processors keep the patches of one token
    together; else a crop is read row by row, in the shape of its grid of tokens or a square; else they are not known.
    """
    config = getattr(image_tower(anatomy), "config", None)
    grids, table = layout.grids[0], inputs.get("image_grid_thw")
    if table is not None and not others and sum(sizes) == int(table.prod(1).sum()):
        given = inputs.get("image_merge_sizes")
        side = int(getattr(config, "spatial_merge_size", 1) or 1)
        merges = [side] * len(table) if given is None else [int(merge) for merge in given]
        shapes = [
            (rows, cols, merge)
            for (frames, rows, cols), merge in zip(table.tolist(), merges, strict=True)
            for _ in range(frames)
        ]
        lies = [(crop, *shape, *lie) for crop, shape in enumerate(shapes) for lie in _merged_order(*shape)]
        return [
            Patch(number, crop, row, col, _token(grids, crop, len(shapes), row, col, rows, cols))
            for number, (crop, rows, cols, _, row, col) in enumerate(lies)
        ]
    start, patches = 0, []
    for crop, size in enumerate(sizes):
        numbers = [number for number in range(start, start + size) if number not in others]
        rows, cols = _shape(len(numbers), grids[crop] if len(grids) == len(sizes) else None)
        for index, number in enumerate(numbers):
            row, col = divmod(index, cols) if cols else (None, None)
            token = _token(grids, crop, len(sizes), row, col, rows, cols)
            patches.append(Patch(number, crop, row, col, token))
        start += size
    return patches


def _shape(count: int, grid: PatchGrid | None) -> tuple[int, int]:
    """Rows and columns of a crop's patches: a multiple of its grid of tokens, else a square; (0, 0) for neither."""
    if grid is not None:
        merge = math.isqrt(count // (grid.rows * grid.columns))
        if merge and merge**2 * grid.rows * grid.columns == count:
            return merge * grid.rows, merge * grid.columns
    side = math.isqrt(count)
    return (side, side) if side * side == count else (0, 0)


def _merged_order(rows: int, cols: int, merge: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of patches, those of one token (merge x merge) after each other."""
    for row in range(0, rows, merge):
        for col in range(0, cols, merge):
            yield from ((row + down, col + right) for down in range(merge) for right in range(merge))


def find_others(anatomy: Anatomy, inputs: Mapping[str, Any], first: nn.Module) -> frozenset[int]:
    """Tokens that enter the first layer as they are whatever the picture: class tokens and registers, no patches."""
    seen: list[Tensor] = []

    def look(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = next(value for value in (*args, *kwargs.values()) if _is_float(value))
        seen.append(hidden.detach().reshape(-1, hidden.shape[-1]))

    pixels = {name for name, value in inputs.items() if "pixel" in name and "mask" not in name and _is_float(value)}
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(inputs[name].shape, generator=generator).to(inputs[name]) for name in sorted(pixels)}
    with Hooks(anatomy, in_bypassed=True) as hooks:
        hooks.before(first, look)
        for given in (inputs, {**inputs, **noise}):
            row_logits(anatomy, given)
    if len(seen) != 2 or seen[0].shape != seen[1].shape:
        return frozenset()
    return frozenset((seen[0] == seen[1]).all(-1).nonzero()[:, 0].tolist())


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point


def _token(
    grids: Sequence[PatchGrid], crop: int, crops: int, row: int | None, col: int | None, rows: int, cols: int
) -> int | None:
    """The decoder's position that shows a patch, where the layout has a grid for each crop."""
    if row is None or col is None or len(grids) != crops or rows % grids[crop].rows or cols % grids[crop].columns:
        return None
    grid = grids[crop]
    position = int(grid.positions[row // (rows // grid.rows), col // (cols // grid.columns)])
    return position if position >= 0 else None


def patch_sources(patches: Sequence[Patch], layout: TokenLayout, side: int) -> tuple[list[Source], list[Tensor]]:
    """Blocks of patches, and for each the numbers of the tokens in it."""
    blocks: dict[tuple[int, int, int], list[Patch]] = {}
    for patch in patches:
        if patch.row is None or patch.col is None:
            if side > 1:
                raise InputError(
                    "How the tower's patches lie in rows and columns is not known, so there are no blocks: "
                    "use a block of 1."
                )
            blocks[patch.crop, patch.number, 0] = [patch]
        else:
            blocks.setdefault((patch.crop, patch.row // side, patch.col // side), []).append(patch)
    crops: dict[int, tuple[int, int]] = {}
    for patch in patches:
        rows, cols = crops.get(patch.crop, (0, 0))
        crops[patch.crop] = max(rows, (patch.row or 0) + 1), max(cols, (patch.col or 0) + 1)
    grids = layout.grids[0]
    has_grids = len(grids) == len(crops)
    sources = []
    for (crop, _, _), mine in blocks.items():
        positions = tuple(sorted({patch.token for patch in mine if patch.token is not None}))
        grid = grids[crop] if has_grids else None
        image = grid.index if grid is not None else (crop if len(crops) == 1 else None)
        row, col = mine[0].row, mine[0].col
        box, text = None, f"patch {mine[0].number}"
        if row is not None and col is not None:
            rows, cols = crops[crop]
            bottom, right = min(row + side, rows), min(col + side, cols)
            text = f"row {row}, column {col}" if side == 1 else f"rows {row}-{bottom - 1}, columns {col}-{right - 1}"
            whole = grid.box if grid is not None else ((0.0, 0.0, 1.0, 1.0) if len(crops) == 1 else None)
            if whole is not None:
                width, height = (whole[2] - whole[0]) / cols, (whole[3] - whole[1]) / rows
                left, top = whole[0] + col * width, whole[1] + row * height
                box = (left, top, whole[0] + right * width, whole[1] + bottom * height)
        sources.append(Source(positions, text, "image", image, row, col, "patches", crop if has_grids else None, box))
    return sources, [torch.tensor([patch.number for patch in mine]) for mine in blocks.values()]
