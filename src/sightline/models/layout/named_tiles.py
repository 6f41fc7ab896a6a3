"""Tiles that the prompt names: a token such as <row_1_col_2> before each, such as <global-img> before the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.models.layout.patches import WHOLE, Grids, Media, PatchGrid, runs_of

_PLACE = re.compile(r"row_(\d+)_col_(\d+)")
_ALL = re.compile(r"global|thumbnail")


@dataclass(frozen=True)
class _Tile:
    """A run of tokens and where in its image it lies: (row, column) from 1, or None for a view of the whole."""

    tokens: Tensor
    place: tuple[int, int] | None


def from_named_tiles(media: Media) -> Grids | None:
    """Grids whose `index` and `box` are given by the token in front of each run; the view of the whole comes last.

    The processor's tokenizer is needed to read the names.
    """
    tokenizer, ids = getattr(media.processor, "tokenizer", None), media.tensor("input_ids")
    if tokenizer is None or ids is None:
        return None
    grids: Grids = []
    for row, positions in zip(ids, media.positions, strict=True):
        tiles = [_tile(row, run, tokenizer) for run in runs_of(positions)]
        known = [tile for tile in tiles if tile is not None]
        if len(known) < len(tiles):
            return None
        sample = [grid for index, image in enumerate(_images(known)) for grid in _grids(media, index, image)]
        if len(sample) < len(tiles):
            return None
        grids.append(sample)
    return grids


def _tile(ids: Tensor, run: Tensor, tokenizer: Any) -> _Tile | None:
    before = int(run[0]) - 1
    name = str(tokenizer.convert_ids_to_tokens(int(ids[before]))) if before >= 0 else ""
    place = _PLACE.search(name)
    if place is not None:
        return _Tile(run, (int(place[1]), int(place[2])))
    return _Tile(run, None) if _ALL.search(name) else None


def _images(tiles: list[_Tile]) -> list[list[_Tile]]:
    """Tiles by image: an image ends with its view of the whole, and before another one's first tile."""
    images: list[list[_Tile]] = []
    is_open = False
    for tile in tiles:
        if not is_open or tile.place == (1, 1):
            images.append([])
        images[-1].append(tile)
        is_open = tile.place is not None
    return images


def _grids(media: Media, index: int, image: list[_Tile]) -> list[PatchGrid]:
    """Nothing where a tile is no square of tokens."""
    places = [tile.place for tile in image if tile.place is not None]
    rows, columns = (max((place[axis] for place in places), default=1) for axis in (0, 1))
    grids = []
    for tile in image:
        square = media.square(tile.tokens)
        if square is None:
            return []
        box = WHOLE
        if tile.place is not None:
            row, column = tile.place
            box = ((column - 1) / columns, (row - 1) / rows, column / columns, row / rows)
        grids.append(PatchGrid(media.kind, index, square, box=box))
    return grids
