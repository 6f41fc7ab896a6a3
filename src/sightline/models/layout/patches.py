"""A patch grid, and the positions of one modality with what the inputs say about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.models.anatomy.configuration import value_of

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of a grid that covers all of its image."""


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
            height; None where it may be a tile whose place in the image the inputs do not say.
        frame: which temporal patch of a video, else None.
    """

    modality: Modality
    index: int
    positions: Tensor
    box: Box | None = WHOLE
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
"""Patch grids, by sample."""

Tiles = list[list[tuple[Box | None, ...]]]
"""By sample and image, the part of the image that each of its tiles shows, in order; None where that is not known."""


_TILING = (
    "crop_to_patches",
    "do_image_splitting",
    "do_pan_and_scan",
    "image_grid_pinpoints",
    "max_image_tiles",
    "max_patches",
    "resize_to_max_canvas",
    "slice_mode",
    "split_image",
)
"""Settings of image processors that cut an image into tiles."""


def cuts_up(processor: Any) -> bool:
    """Whether a processor's settings let it cut an image into tiles."""
    images = getattr(processor, "image_processor", None)
    return any(bool(getattr(images, name, False)) for name in _TILING)


@dataclass(frozen=True)
class Media:
    """The positions of one modality in a batch, and what inputs and configuration say about them."""

    kind: Modality
    anatomy: Anatomy
    inputs: Mapping[str, Any]
    positions: list[Tensor]
    """For each sample, [count] positions, ascending."""
    processor: Any = None
    tiles: Tiles | None = None
    """Of the images, where they were seen as they were cut up."""

    @property
    def may_tile(self) -> bool:
        """Whether an image may come as several crops; a processor that has no setting for it never cuts one up."""
        return getattr(self.processor, "image_processor", None) is None or cuts_up(self.processor)

    @property
    def total(self) -> int:
        """Positions of this modality in the whole batch."""
        return sum(len(positions) for positions in self.positions)

    @property
    def name(self) -> str:
        """The modality in lower case."""
        return self.kind.name.lower()

    def tensor(self, *names: str) -> Any:
        """The first of the inputs with one of these names, on the CPU, or None."""
        found = next((self.inputs[name] for name in names if self.inputs.get(name) is not None), None)
        try:
            return torch.as_tensor(found).detach().cpu() if found is not None else None
        except (TypeError, ValueError):  # a list of pictures of different sizes
            return None

    def config(self, name: str) -> Any:
        """A field of the model's configuration or of its vision configuration, or None."""
        whole = self.anatomy.config
        vision = getattr(self.anatomy.vision_tower, "config", None) or getattr(whole, "vision_config", None)
        values = (value_of(part, name) for part in (whole, vision))
        return next((value for value in values if value is not None), None)

    def side(self, name: str) -> int | None:
        """A length in pixels from the configuration (`image_size`, `patch_size`), of a square."""
        value = self.config(name)
        sides = {int(item) for item in value} if isinstance(value, list | tuple) else {value}
        side = sides.pop() if len(sides) == 1 else None
        return side if isinstance(side, int) else None

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

    def square(self, tokens: Tensor) -> Tensor | None:
        """[side, side] of [count] positions, or None where they are no square.

        A class token in front of the tower's own number of patches is left out of the square.
        """
        side = math.isqrt(len(tokens))
        if side * side == len(tokens):
            return tokens.reshape(side, side)
        image, patch = self.side("image_size"), self.side("patch_size")
        if image and patch and len(tokens) == (image // patch) ** 2 + 1:
            return tokens[1:].reshape(image // patch, image // patch)
        return None


def runs_of(positions: Tensor) -> list[Tensor]:
    """Stretches of neighbouring positions."""
    if not len(positions):
        return []
    edges = ((positions[1:] - positions[:-1]) != 1).nonzero()[:, 0] + 1
    return list(torch.tensor_split(positions, edges))
