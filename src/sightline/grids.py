"""How the image positions of a prompt lie in rows and columns.

Each finder reads one way in which families say it, and answers None where that way does not apply: a grid in the
inputs, coordinates of patches, the images' sizes, or crops of one fixed size. A grid is never guessed: where no
finder's count of tokens agrees with the prompt, there is none, and a sentence says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.anyres import from_resolutions
from sightline.patches import WHOLE, Grids, Media, Modality, PatchGrid, runs_of

if TYPE_CHECKING:
    from sightline.anatomy import Anatomy


def find_grids(
    anatomy: Anatomy, inputs: Mapping[str, Any], modality: Tensor
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
        finders = () if is_resampled(anatomy) else FINDERS
        grids = next((grids for finder in finders if (grids := finder(media)) is not None), None)
        if grids is None:
            notes.append(_unknown(media))
        for mine, more in zip(found, grids or [], strict=False):
            mine.extend(more)
    ordered = tuple(tuple(sorted(mine, key=lambda grid: int(grid.positions.max()))) for mine in found)
    return ordered, tuple(notes)


def _unknown(media: Media) -> str:
    if is_resampled(media.anatomy):
        return (
            f"The {media.name} tokens are queries of a resampler, each of which sees the whole {media.name}: "
            "they have no grid."
        )
    return f"How the {media.total} {media.name} tokens lie in rows and columns is not known, so they have no grid."


def is_resampled(anatomy: Anatomy) -> bool:
    """Whether image tokens are learned queries (Q-Former, Perceiver) rather than patches."""
    inside = {id(module) for layer in anatomy.layers for module in layer.modules()}
    names = (type(module).__name__.lower() for module in anatomy.model.modules() if id(module) not in inside)
    return any(word in name for name in names for word in ("perceiver", "resampler", "qformer", "abstractor"))


def from_grid_inputs(media: Media) -> Grids | None:
    """`image_grid_thw` and its kin: frames, rows and columns of patches; neighbours are merged before the decoder."""
    name = re.compile(rf"^{media.name}_grid_(thw|hw)s?$")
    table = media.tensor(*(key for key in media.inputs if name.match(key)))
    if table is None:
        return None
    return _merged(media, [tuple((1, *row)[-3:]) for row in table.tolist()])


def from_coordinates(media: Media) -> Grids | None:
    """`image_position_ids`: the column and row of every patch, -1 where there is none; then pooled by neighbours."""
    places = media.tensor(f"{media.name}_position_ids")
    if places is None or places.shape[-1] != 2:
        return None
    corners = places.reshape(-1, *places.shape[-2:]).amax(1) + 1
    return _merged(media, [(1, int(rows), int(columns)) for columns, rows in corners.tolist() if rows and columns])


def _merged(media: Media, sizes: list[tuple[int, ...]]) -> Grids | None:
    """Grids of (frames, rows, columns) of patches, of which every square of neighbours became one token."""
    patches = sum(frames * rows * columns for frames, rows, columns in sizes)
    merge = math.isqrt(patches // media.total)
    if merge < 1 or merge * merge * media.total != patches:
        return None
    dealt = media.share([frames * (rows // merge) * (columns // merge) for frames, rows, columns in sizes])
    if dealt is None:
        return None
    is_video = media.kind is Modality.VIDEO
    return [
        [
            PatchGrid(media.kind, index, plane, frame=frame if is_video else None)
            for index, (item, tokens) in enumerate(mine)
            for frame, plane in enumerate(
                tokens.reshape(sizes[item][0], sizes[item][1] // merge, sizes[item][2] // merge)
            )
        ]
        for mine in dealt
    ]


_LARGEST_MERGE = 8
"""No known family merges more than eight by eight patches into one token."""


def from_pixel_sizes(media: Media) -> Grids | None:
    """`image_sizes`: the height and width in pixels of images that keep their shape, in whole patches.

    The rows may stand apart in the sequence, with break tokens between them.
    """
    sizes, patch = media.tensor(f"{media.name}_sizes"), media.side("patch_size")
    if sizes is None or sizes.dim() != 2 or sizes.shape[1] != 2 or not patch:
        return None
    for unit in (patch * merge for merge in range(1, _LARGEST_MERGE + 1)):
        shapes = [(height // unit, width // unit) for height, width in sizes.tolist()]
        dealt = media.share([rows * columns for rows, columns in shapes])
        if dealt is not None:
            return [
                [
                    PatchGrid(media.kind, index, tokens.reshape(shapes[item]))
                    for index, (item, tokens) in enumerate(mine)
                ]
                for mine in dealt
            ]
    return None


_PIXELS = {
    Modality.IMAGE: ("pixel_values", "pixel_values_images"),
    Modality.VIDEO: ("pixel_values_videos", "video_pixel_values"),
}


def from_frames(media: Media) -> Grids | None:
    """Videos of [videos, frames, channels, height, width]: a square of tokens a frame, maybe one more at the end."""
    pixels = media.tensor(*_PIXELS[media.kind])
    if media.kind is not Modality.VIDEO or pixels is None or pixels.dim() != 5:
        return None
    videos, frames = pixels.shape[:2]
    each = media.total // videos
    dealt = media.share([each] * videos)
    if dealt is None:
        return None
    grids: Grids = []
    for mine in dealt:
        sample = []
        for index, (_, tokens) in enumerate(mine):
            for frame, part in enumerate(tokens[: each // frames * frames].chunk(frames)):
                square = media.square(part)
                if square is None or each % frames > 1:
                    return None
                sample.append(PatchGrid(media.kind, index, square, frame=frame))
        grids.append(sample)
    return grids


def from_crops(media: Media) -> Grids | None:
    """Crops of one size, a square of tokens each: a whole image each, or tiles of one.

    Tiles of one image either follow one another in one run of positions, or stand in runs of their own.
    """
    count = _crop_count(media)
    each = media.total // count if count and media.total % count == 0 else 0
    grids: Grids = []
    for positions in media.positions:
        sample = []
        runs = runs_of(positions)
        for index, run in enumerate(runs):
            size = each if each and len(run) % each == 0 else len(run)
            tiles = [media.square(tile) for tile in run.split(size)]
            box = None if len(tiles) > 1 or (_is_stacked(media) and len(runs) > 1) else WHOLE
            for tile in tiles:
                if tile is None:
                    return None
                sample.append(PatchGrid(media.kind, index, tile, box=box))
        grids.append(sample)
    return grids


def _is_stacked(media: Media) -> bool:
    """Whether the crops of a sample come in an axis of their own, so that several may be tiles of one image."""
    pixels = media.tensor(*_PIXELS[media.kind])
    return pixels is not None and pixels.dim() == 5


def _crop_count(media: Media) -> int | None:
    """How many crops the batch has; an all-zero crop only fills the stack up."""
    pixels = media.tensor(*_PIXELS[media.kind])
    if pixels is None or pixels.dim() not in (4, 5):
        return None
    if pixels.dim() == 4:
        return int(pixels.shape[0])
    return int(torch.count_nonzero(pixels.flatten(0, 1).flatten(1).any(1)))


FINDERS: tuple[Callable[[Media], Grids | None], ...] = (
    from_grid_inputs,
    from_coordinates,
    from_resolutions,
    from_pixel_sizes,
    from_frames,
    from_crops,
)
