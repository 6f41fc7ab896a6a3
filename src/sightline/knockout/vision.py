"""What the answer would be without a part of the picture: blocks of it are painted over before the vision tower.

The picture itself is changed, so any processor and any tower will do: the model sees an ordinary picture. Unlike a cut
in the decoder, nothing of the part is left anywhere, also not in what its neighbours have read of it in the tower.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightline.errors import InputError
from sightline.knockout.logits import answer_of, effect_maps, effect_rows, row_logits
from sightline.knockout.source import Source
from sightline.knockout.sources import find_row
from sightline.knockout.study_rules import FILLS
from sightline.memory import with_less_memory
from sightline.models.layout import Modality
from sightline.models.layout.patches import WHOLE, Box

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.sample import Sample
    from sightline.models.layout import TokenLayout
    from sightline.models.vlm import VLM


GRAY = (128, 128, 128)
FALLBACK = 8
"""Rows and columns of cells where the patches of the model are not known."""

BATCH = 8
"""Pictures in one pass, halved where memory is short."""


@dataclass(frozen=True)
class AnswerEffects:
    """Effects on the answer. maps: by measure, [layers, sources]; layers: their numbers."""

    sources: tuple[Source, ...]
    maps: dict[str, torch.Tensor]
    baseline: dict[str, Any]
    layers: tuple[int, ...] = (0,)
    controls: int = 0
    """How many of the sources, the last ones, are controls."""
    row: int | None = None
    """The row whose answer was read, where the caller does not know it."""


@dataclass(frozen=True)
class Cells:
    """One picture in rows and columns: `positions[row][col]` are the tokens of the model that show the cell."""

    image: int
    rows: int
    columns: int
    positions: tuple[tuple[tuple[int, ...], ...], ...]
    grid: int | None = None

    def block(self, top: int, left: int, side: int) -> Source:
        """The side x side cells from (top, left) on, fewer at the edges."""
        bottom, right = min(top + side, self.rows), min(left + side, self.columns)
        text = f"row {top}, column {left}" if side == 1 else f"rows {top}-{bottom - 1}, columns {left}-{right - 1}"
        places = {
            place for line in self.positions[top:bottom] for cell in line[left:right] for place in cell if place >= 0
        }
        box = (left / self.columns, top / self.rows, right / self.columns, bottom / self.rows)
        return Source(tuple(sorted(places)), text, "image", self.image, top, left, "patches", self.grid, box)

    def blocks(self, side: int) -> Iterator[Source]:
        """All blocks, row by row."""
        for top in range(0, self.rows, side):
            for left in range(0, self.columns, side):
                yield self.block(top, left, side)


def picture_cells(layout: TokenLayout, images: int, sample: int = 0) -> list[Cells]:
    """Rows and columns of each picture: those of the patch grid that covers all of it, else 8 x 8 without tokens."""
    found = []
    for image in range(images):
        whole = [
            (number, grid)
            for number, grid in enumerate(layout.grids[sample])
            if grid.modality is Modality.IMAGE and grid.index == image and grid.box == WHOLE
        ]
        if whole:
            number, grid = whole[0]
            table = tuple(tuple((place,) for place in line) for line in grid.positions.tolist())
            found.append(Cells(image, grid.rows, grid.columns, table, number))
        else:
            found.append(Cells(image, FALLBACK, FALLBACK, (((),) * FALLBACK,) * FALLBACK))
    return found


def paint_over(picture: Image.Image, boxes: Sequence[Box], fill: str = "gray") -> Image.Image:
    """A copy of an RGB picture with boxes (shares of its sides) filled.

    fill: "gray", the middle of the range; "mean", the picture's mean colour; "blur", the picture blurred so strongly
    that nothing as small as a box is left (Gaussian, its radius half the longer side of the largest box).
    """
    from PIL import Image, ImageFilter

    width, height = picture.size
    pixels = [
        (round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)) for x0, y0, x1, y1 in boxes
    ]
    copy = picture.copy()
    if fill == "blur":
        radius = max(max(right - left, lower - upper) for left, upper, right, lower in pixels) / 2
        under = picture.filter(ImageFilter.GaussianBlur(max(1.0, radius)))
    elif fill == "mean":
        mean = np.asarray(picture, dtype=np.float64).reshape(-1, 3).mean(0)
        under = Image.new("RGB", picture.size, tuple(int(value) for value in mean.round()))
    elif fill == "gray":
        under = Image.new("RGB", picture.size, GRAY)
    else:
        raise InputError(f"There is no fill called '{fill}'; use {', '.join(FILLS[:-1])} or {FILLS[-1]}.")
    for box in pixels:
        if box[2] > box[0] and box[3] > box[1]:
            copy.paste(under.crop(box), box)
    return copy


def vision_effects(
    vlm: VLM,
    sample: Sample,
    side: int = 1,
    fill: str = "gray",
    target: str | int = "predicted",
    controls: int = 0,
    seed: int = 0,
) -> AnswerEffects:
    """Paints over each block of side x side patches of each picture, and reads the answer's first token.

    controls: random sets of as many single patches, anywhere in the picture, painted over together.

    Raises:
        InputError: for a sample without a picture, a model without a processor, an unknown fill.
    """
    if fill not in FILLS:
        raise InputError(f"There is no fill called '{fill}'; use {', '.join(FILLS[:-1])} or {FILLS[-1]}.")
    pictures = sample.load_images()
    if not pictures:
        raise InputError("There is no picture in the sample, so nothing of it can be painted over: give an image.")
    inputs = vlm.encode(replace(sample, images=tuple(pictures)))
    before = row_logits(vlm.anatomy, inputs)[0]
    answer = answer_of(before, target)
    layout = vlm.layout(inputs)
    cells = picture_cells(layout, len(pictures))
    sources = [block for each in cells for block in each.blocks(side)]
    variants = [((source.image or 0), [source.box or WHOLE]) for source in sources]
    drawn = list(_controls(cells, side, controls, seed))
    sources += [source for source, _ in drawn]
    variants += [((source.image or 0), boxes) for source, boxes in drawn]

    def picture_sets(part: slice) -> list[Sample]:
        return [
            replace(
                sample,
                images=tuple(
                    paint_over(picture, boxes, fill) if number == image else picture
                    for number, picture in enumerate(pictures)
                ),
            )
            for image, boxes in variants[part]
        ]

    def run(part: slice) -> torch.Tensor:
        return effect_rows(answer, row_logits(vlm.anatomy, vlm.encode(picture_sets(part))))

    maps = effect_maps(in_batches(len(variants), BATCH, run), 1, len(variants))
    return AnswerEffects(tuple(sources), maps, answer.baseline(), controls=len(drawn), row=find_row(layout, "last"))


def in_batches(count: int, size: int, run: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """`run` on slices of 0..count, joined along the first axis; smaller slices where memory is short."""
    sizes = [size]

    def attempt(start: int) -> torch.Tensor:
        return run(slice(start, min(count, start + sizes[0])))

    def shrink() -> bool:
        sizes[0] //= 2
        return sizes[0] >= 1

    parts: list[torch.Tensor] = []
    while (start := sum(len(part) for part in parts)) < count:
        parts.append(with_less_memory(lambda start=start: attempt(start), shrink))  # type: ignore[misc]
    return torch.cat(parts)


def _controls(cells: Sequence[Cells], side: int, draws: int, seed: int) -> Iterator[tuple[Source, list[Box]]]:
    """Random sets of side x side single patches, `draws` for each picture."""
    generator = random.Random(f"vision control/{seed}")
    for each in cells:
        places = [(row, col) for row in range(each.rows) for col in range(each.columns)]
        size = min(side, each.rows) * min(side, each.columns)
        for draw in range(draws):
            parts = [each.block(row, col, 1) for row, col in sorted(generator.sample(places, size))]
            positions = tuple(sorted(place for part in parts for place in part.positions))
            text = f"{size} random, draw {draw + 1}"
            source = Source(positions, text, "image", each.image, kind="control", grid=each.grid)
            yield source, [part.box or WHOLE for part in parts]
