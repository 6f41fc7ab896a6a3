"""Which column of a map each position of a prompt adds to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.models.layout import Modality, PatchGrid, TokenLayout
from sightline.probes.map_values import Array, MapGrid

if TYPE_CHECKING:
    pass

MOST_TEXT = 400
"""Words of the prompt that are kept: the first tenth of these, and the last."""


MOST_PATCHES = 1024
"""Patches of a sample that are kept apart; of more, squares of neighbours are summed."""


MOST_HEAD_PATCHES = 144
"""The same for maps by head."""


@dataclass(frozen=True)
class MapColumns:
    """Which column of the maps each position of a prompt adds to; the last, which is dropped, where to none."""

    positions: tuple[int, ...]
    grids: tuple[MapGrid, ...]
    head_grids: tuple[MapGrid, ...]
    column: Tensor
    head_column: Tensor
    bos: list[int]

    @classmethod
    def of(cls, layout: TokenLayout, sample: int) -> MapColumns:
        positions = layout.positions(sample, Modality.TEXT).tolist()
        if len(positions) > MOST_TEXT:
            positions = positions[: MOST_TEXT // 10] + positions[-(MOST_TEXT - MOST_TEXT // 10) :]
        grids, cells = _pooled(layout.grids[sample], MOST_PATCHES, len(positions))
        head_grids, head_cells = _pooled(layout.grids[sample], MOST_HEAD_PATCHES, 0)
        column = _table(layout.length, {place: number for number, place in enumerate(positions)} | cells)
        bos = [number for number, place in enumerate(positions) if bool(layout.bos[sample, place])]
        return cls(tuple(positions), grids, head_grids, column, _table(layout.length, head_cells), bos)

    def gather(self, weights: Tensor, first: int) -> tuple[Array, Array]:
        """Of [heads, keys]: the mean over heads by column, and by head the columns of its patches."""
        parts = []
        for column in (self.column, self.head_column):
            width = int(column.max()) + 1
            keys = column[first : first + weights.shape[1]].to(weights.device)
            missing = weights.shape[1] - len(keys)
            keys = torch.nn.functional.pad(keys, (0, missing), value=width - 1) if missing else keys
            sums = weights.new_zeros((weights.shape[0], width)).index_add_(1, keys, weights)[:, : width - 1]
            parts.append(sums)
        mean, heads = parts[0].mean(0), parts[1]
        return mean.float().cpu().numpy(), heads.half().cpu().numpy()

    def marked(self, marks: Tensor) -> NDArray[np.bool_]:
        """[columns]: those that a marked position adds to."""
        width = int(self.column.max()) + 1
        found = np.zeros(width, dtype=np.bool_)
        found[self.column[: len(marks)][marks[: len(self.column)]].numpy()] = True
        return found[:-1]


def _table(length: int, cells: Mapping[int, int]) -> Tensor:
    rest = max(cells.values(), default=-1) + 1
    table = torch.full((length + 1,), rest, dtype=torch.long)  # one more, so that the rest always has a place
    for place, number in cells.items():
        table[place] = number
    return table


def _pooled(grids: Sequence[PatchGrid], most: int, start: int) -> tuple[tuple[MapGrid, ...], dict[int, int]]:
    """The grids with squares of neighbours put together until there are at most `most`, and each position's column."""
    total = sum(grid.rows * grid.columns for grid in grids)
    side = max(1, math.ceil(math.sqrt(total / most)))
    found, columns = [], {}
    for grid in grids:
        cells = np.full((math.ceil(grid.rows / side), math.ceil(grid.columns / side)), -1, dtype=np.int64)
        for row, line in enumerate(grid.positions.tolist()):
            for column, place in enumerate(line):
                if place < 0:
                    continue
                spot = row // side, column // side
                if cells[spot] < 0:
                    cells[spot] = start
                    start += 1
                columns[place] = int(cells[spot])
        found.append(MapGrid(grid.modality.name.lower(), grid.index, cells, grid.box, grid.frame, side))
    return tuple(found), columns
