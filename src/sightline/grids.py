"""How the image positions of a prompt lie in rows and columns.

Each finder reads one way in which families say it, and answers None where that way does not apply: a grid in the
inputs, the images' sizes, or crops of one fixed size. A grid is never guessed: where no finder's count of tokens
agrees with the prompt, there is none, and a sentence says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sightline.anatomy import Anatomy


class Modality(IntEnum):
    """What stands at a position of the sequence."""

    PADDING = 0
    TEXT = 1
    IMAGE = 2
    VIDEO = 3
    AUDIO = 4


@dataclass(frozen=True)
class PatchGrid:
    """The patches of one image, one tile of an image, or one frame of a video, as rows and columns of positions.

    Attributes:
        modality: IMAGE or VIDEO.
        index: which image (or video) of the sample, from 0.
        positions: [rows, columns] token positions in the sequence; -1 where the image has no token.
        box: the part of the image that the grid covers, (left, top, right, bottom) as shares of its width and
            height; None where it is a tile whose place in the image the inputs do not tell.
        frame: which temporal patch of a video, else None.
    """

    modality: Modality
    index: int
    positions: Tensor
    box: tuple[float, float, float, float] | None = (0.0, 0.0, 1.0, 1.0)
    frame: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows of patches."""
        return int(self.positions.shape[0])

    @property
    def columns(self) -> int:
        """Number of columns of patches."""
        return int(self.positions.shape[1])


Grids = list[list[PatchGrid]]


@dataclass(frozen=True)
class Media:
    """The positions of one modality in a batch, and what the inputs say about them."""

    kind: Modality
    anatomy: Anatomy
    inputs: Mapping[str, Any]
    positions: list[Tensor]
    """For each sample, [count] positions, ascending."""

    @property
    def total(self) -> int:
        """Positions of this modality in the whole batch."""
        return sum(len(positions) for positions in self.positions)

    def config(self, name: str, default: Any = None) -> Any:
        """A field of the model's configuration or of its vision configuration."""
        for part in (self.anatomy.config, getattr(self.anatomy.config, "vision_config", None)):
            value = getattr(part, name, None)
            if value is not None:
                return value
        return default

    def share(self, counts: list[int]) -> list[list[tuple[int, Tensor]]] | None:
        """Deal positions out to items of `counts` tokens, in order: for each sample [(item, positions)].

        None where the counts do not fill the samples exactly.
        """
        dealt: list[list[tuple[int, Tensor]]] = []
        item = 0
        for positions in self.positions:
            mine, start = [], 0
            while start < len(positions):
                if item >= len(counts) or counts[item] < 1 or start + counts[item] > len(positions):
                    return None
                mine.append((item, positions[start : start + counts[item]]))
                start += counts[item]
                item += 1
            dealt.append(mine)
        return dealt if item == len(counts) else None


def find_grids(
    anatomy: Anatomy, inputs: Mapping[str, Any], modality: Tensor, processor: Any = None
) -> tuple[tuple[tuple[PatchGrid, ...], ...], tuple[str, ...]]:
    """Patch grids of every sample, and a sentence for each modality whose grid is not known.

    Args:
        modality: [batch, positions], values of `Modality`.
    """
    found: Grids = [[] for _ in range(len(modality))]
    notes = []
    for kind in (Modality.IMAGE, Modality.VIDEO):
        media = Media(kind, anatomy, inputs, [(row == kind).nonzero()[:, 0] for row in modality])
        if not media.total:
            continue
        grids = next((grids for finder in FINDERS if (grids := finder(media)) is not None), None)
        if grids is None:
            notes.append(_unknown(media))
        for mine, more in zip(found, grids or [], strict=False):
            mine.extend(more)
    ordered = tuple(tuple(sorted(mine, key=lambda grid: int(grid.positions.max()))) for mine in found)
    return ordered, tuple(notes)


def _unknown(media: Media) -> str:
    name = media.kind.name.lower()
    if is_resampled(media.anatomy):
        return f"The {name} tokens are queries of a resampler, each of which sees the whole {name}: they have no grid."
    return f"How the {media.total} {name} tokens lie in rows and columns is not known, so they have no grid."


def is_resampled(anatomy: Anatomy) -> bool:
    """Whether image tokens are learned queries (Q-Former, Perceiver) rather than patches."""
    parts = (part for part in (anatomy.projector, anatomy.vision_tower) if part is not None)
    names = (type(module).__name__.lower() for part in parts for module in part.modules())
    return any(word in name for name in names for word in ("perceiver", "resampler", "qformer", "abstractor"))


def from_grid_inputs(media: Media) -> Grids | None:
    """`image_grid_thw` and its kin: frames, rows and columns of patches; neighbours are merged before the decoder."""
    name = re.compile(rf"^{media.kind.name.lower()}_grid_(thw|hw)s?$")
    table = next((value for key, value in media.inputs.items() if name.match(key) and value is not None), None)
    if table is None:
        return None
    sizes = [(1, *row)[-3:] for row in table.detach().cpu().tolist()]
    patches = sum(frames * rows * columns for frames, rows, columns in sizes)
    merge = math.isqrt(patches // media.total)
    if merge < 1 or merge * merge * media.total != patches:
        return None
    dealt = media.share([frames * rows * columns // merge**2 for frames, rows, columns in sizes])
    if dealt is None:
        return None
    grids: Grids = []
    for mine in dealt:
        sample = []
        for index, (item, positions) in enumerate(mine):
            frames, rows, columns = sizes[item]
            shaped = positions.reshape(frames, rows // merge, columns // merge)
            is_video = media.kind is Modality.VIDEO
            sample += [
                PatchGrid(media.kind, index, plane, frame=frame if is_video else None)
                for frame, plane in enumerate(shaped)
            ]
        grids.append(sample)
    return grids


def from_crops(media: Media) -> Grids | None:
    """Crops of one size, each a square of tokens: a whole image each, or tiles of one."""
    if is_resampled(media.anatomy):
        return None
    grids: Grids = []
    for positions in media.positions:
        sample = []
        for index, run in enumerate(_runs(positions)):
            side = math.isqrt(len(run))
            if side * side != len(run):
                return None
            sample.append(PatchGrid(media.kind, index, run.reshape(side, side)))
        grids.append(sample)
    return grids


def _runs(positions: Tensor) -> list[Tensor]:
    """Stretches of neighbouring positions."""
    if not len(positions):
        return []
    edges = ((positions[1:] - positions[:-1]) != 1).nonzero()[:, 0] + 1
    return list(torch.tensor_split(positions, edges))


FINDERS: tuple[Callable[[Media], Grids | None], ...] = (from_grid_inputs, from_crops)
