"""How the image positions of a prompt lie in rows and columns.

Each finder reads one way in which families say it, and answers None where that way does not apply: a grid in the
inputs, coordinates of patches, the images' sizes, or crops of one fixed size. A grid is never guessed: where no
finder's count of tokens agrees with the prompt, there is none, and a sentence says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sightline.errors import LayoutError
from sightline.models.layout.anyres import from_resolutions
from sightline.models.layout.named_tiles import from_named_tiles
from sightline.models.layout.patches import WHOLE, Grids, Media, Modality, PatchGrid, Tiles, runs_of

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy


def find_grids(
    anatomy: Anatomy, inputs: Mapping[str, Any], modality: Tensor, processor: Any = None, tiles: Tiles | None = None
) -> tuple[tuple[tuple[PatchGrid, ...], ...], tuple[str, ...]]:
    """Patch grids of every sample, and a sentence for each modality whose grid is not known.

    Args:
        modality: [batch, positions], values of `Modality`.
        processor: of the model, where it is known; it says whether images are cut into tiles.
        tiles: of the images, where they were seen as they were cut up.
    """
    found: Grids = [[] for _ in range(len(modality))]
    notes = []
    for kind in (Modality.IMAGE, Modality.VIDEO):
        media = Media(kind, anatomy, inputs, [(row == kind).nonzero()[:, 0] for row in modality], processor, tiles)
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


_LEARNED_QUERIES = re.compile(r"(^|\.)(latents?|quer(y|ies)|query_tokens|latent_quer(y|ies))$")

_RESAMPLED: WeakKeyDictionary[Anatomy, bool] = WeakKeyDictionary()
"""What was found before: a large model has thousands of parameters, and every prompt asks."""


def is_resampled(anatomy: Anatomy) -> bool:
    """Whether image tokens are learned queries (Q-Former, Perceiver) that see the whole image, rather than patches."""
    found = _RESAMPLED.get(anatomy)
    if found is None:
        rate = getattr(getattr(anatomy.model, "config", None), "downsample_rate", None)
        if isinstance(rate, str) and rate.startswith("1/"):  # a query a window of patches
            return False
        inside = {id(parameter) for layer in anatomy.layers for parameter in layer.parameters()}
        found = _RESAMPLED[anatomy] = any(
            _LEARNED_QUERIES.search(name) and id(parameter) not in inside
            for name, parameter in anatomy.model.named_parameters()
        )
    return found


def from_grid_inputs(media: Media) -> Grids | None:
    """`image_grid_thw` and its kin: (frames,) rows and columns of patches; neighbours are merged before the decoder."""
    name = re.compile(rf"^{media.name}_grid_(thw|hw)s?$")
    shapes = ("target_sizes_videos",) if media.kind is Modality.VIDEO else ("spatial_shapes", "target_sizes")
    table = media.tensor(*(key for key in media.inputs if name.match(key)), *shapes)
    if table is None or table.dim() != 2 or table.shape[1] not in (2, 3):
        return None
    return _merged(media, [(1, *row)[-3:] for row in table.tolist()])


def from_views(media: Media) -> Grids | None:
    """`image_grids`: rows and columns of a coarse view of each image and of a fine one behind it, in tokens."""
    table = media.tensor(f"{media.name}_grids")
    if table is None or table.dim() != 2 or table.shape[1] != 4:
        return None
    grids = _merged(media, [(1, *row[side : side + 2]) for row in table.tolist() for side in (0, 2)])
    return grids and [[replace(grid, index=grid.index // 2) for grid in sample] for sample in grids]


def from_coordinates(media: Media) -> Grids | None:
    """`image_position_ids`: the column and row of every patch, -1 where there is none; then pooled by neighbours."""
    places = media.tensor(f"{media.name}_position_ids")
    if places is None or places.shape[-1] != 2:
        return None
    corners = places.reshape(-1, *places.shape[-2:]).amax(1) + 1
    return _merged(media, [(1, int(rows), int(columns)) for columns, rows in corners.tolist() if rows and columns])


def from_pixel_sizes(media: Media) -> Grids | None:
    """`image_sizes`: the height and width in pixels of images that keep their shape, in whole patches.

    The rows may stand apart in the sequence, with break tokens between them.
    """
    sizes, patch = media.tensor(f"{media.name}_sizes"), media.side("patch_size")
    if sizes is None or sizes.dim() != 2 or sizes.shape[1] != 2 or not patch:
        return None
    return _merged(media, [(1, height // patch, width // patch) for height, width in sizes.tolist()])


_LARGEST_MERGE = 8
"""No known family merges more than eight by eight patches into one token."""


def _merged(media: Media, sizes: list[tuple[int, ...]]) -> Grids | None:
    """Grids of (frames, rows, columns) of patches, of which every square of neighbours became one token.

    The side of that square stands in the inputs, or it is the one with which the counts of tokens agree.
    """
    given = media.tensor(f"{media.name}_merge_sizes")
    squares = [given.tolist()] if given is not None else [[side] * len(sizes) for side in range(1, _LARGEST_MERGE + 1)]
    for sides in squares:
        shapes: list[tuple[int, ...]] = [
            (frames, rows // side, columns // side) for (frames, rows, columns), side in zip(sizes, sides, strict=True)
        ]
        dealt = media.share([math.prod(shape) for shape in shapes])
        if dealt is not None:
            return [_planes(media, mine, shapes) for mine in dealt]
    return None


def _planes(media: Media, mine: list[tuple[int, Tensor]], shapes: list[tuple[int, ...]]) -> list[PatchGrid]:
    is_video = media.kind is Modality.VIDEO
    return [
        PatchGrid(media.kind, index, plane, frame=frame if is_video else None)
        for index, (item, tokens) in enumerate(mine)
        for frame, plane in enumerate(tokens.reshape(shapes[item]))
    ]


_PIXELS = {
    Modality.IMAGE: ("pixel_values", "pixel_values_images", "image_pixel_values"),
    Modality.VIDEO: ("pixel_values_videos", "video_pixel_values"),
}


def from_frames(media: Media) -> Grids | None:
    """Videos of [videos, frames, channels, height, width]: a square of tokens a frame, maybe one more at the end."""
    pixels = media.tensor(*_PIXELS[media.kind])
    if media.kind is not Modality.VIDEO or pixels is None or pixels.dim() != 5 or pixels.shape[-1] != pixels.shape[-2]:
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


def from_known_tiles(media: Media) -> Grids | None:
    """Tiles whose places were seen when the pictures were cut up: a square of tokens each, in their order."""
    if media.tiles is None or media.kind is not Modality.IMAGE or len(media.tiles) != len(media.positions):
        return None
    boxes = [(index, box) for mine in media.tiles for index, image in enumerate(mine) for box in image]
    each = media.total // max(1, len(boxes))
    dealt = media.share([each] * len(boxes))
    if dealt is None or not each:
        return None
    grids: Grids = []
    for mine in dealt:
        squares = [(item, media.square(tokens)) for item, tokens in mine]
        if any(square is None for _, square in squares):
            return None
        grids.append(
            [
                PatchGrid(media.kind, boxes[item][0], square, box=boxes[item][1])
                for item, square in squares
                if square is not None
            ]
        )
    return grids


def from_crops(media: Media) -> Grids | None:
    """Square crops of one size, a square of tokens each: a whole image each, or tiles of one.

    Tiles of one image either follow one another in one run of positions, or stand in runs of their own.
    """
    count = _crop_count(media)
    if count is None and media.processor is not None and media.may_tile:
        return None  # without pixels a square of tiles can't be known from one large tile
    given = media.tensor(f"{media.name}_sizes", *_PIXELS[media.kind])
    if count is None and given is not None:
        return None  # pictures of other shapes, which none of the other finders could read
    each = media.total // count if count and media.total % count == 0 else 0
    image, patch = media.side("image_size"), media.side("patch_size")
    if each == 1 and image and patch and image > patch:
        raise LayoutError(
            f"The prompt holds one {media.name} token a picture, as old processors write it, and the model takes one a "
            "patch: encode it with a processor that knows its patch_size, or give the layout by hand."
        )
    grids: Grids = []
    for positions in media.positions:
        runs = runs_of(positions)
        crops = [
            (index, media.square(crop))
            for index, run in enumerate(runs)
            for crop in torch.split(run, each if each and len(run) % each == 0 else len(run))
        ]
        if not media.may_tile:
            crops = [(index, square) for index, (_, square) in enumerate(crops)]
        is_tiled = media.may_tile and (len(crops) > len(runs) or (_is_stacked(media) and len(runs) > 1))
        sample = [
            PatchGrid(media.kind, index, square, box=None if is_tiled else WHOLE)
            for index, square in crops
            if square is not None
        ]
        if len(sample) < len(crops):
            return None
        grids.append(sample)
    return grids


def from_lines(media: Media) -> Grids | None:
    """Images given as a list of patches: lines of one length, one break token between each and the next."""
    pixels, ids = media.tensor(*_PIXELS[media.kind]), media.tensor("input_ids")
    if pixels is None or pixels.dim() in (4, 5) or ids is None:
        return None
    grids: Grids = []
    for row, positions in zip(ids, media.positions, strict=True):
        images: list[list[Tensor]] = []
        for line in runs_of(positions):
            above = images[-1][-1] if images else None
            if above is not None and len(line) == len(above) and _breaks(row, images[-1], line):
                images[-1].append(line)
            else:
                images.append([line])
        if any(len(lines) == 1 for lines in images):
            return None
        grids.append([PatchGrid(media.kind, index, torch.stack(lines)) for index, lines in enumerate(images)])
    return grids


def _breaks(ids: Tensor, lines: list[Tensor], line: Tensor) -> bool:
    """Whether one token parts a line from the one above, the same as between the lines before."""
    gap = int(line[0]) - int(lines[-1][-1])
    return gap == 2 and (len(lines) == 1 or bool(ids[line[0] - 1] == ids[lines[-1][0] - 1]))


def _is_stacked(media: Media) -> bool:
    """Whether the crops of a sample come in an axis of their own, so that several may be tiles of one image."""
    pixels = media.tensor(*_PIXELS[media.kind])
    return pixels is not None and pixels.dim() == 5


def _crop_count(media: Media) -> int | None:
    """How many square crops the batch has; an all-zero crop only fills the stack up."""
    pixels = media.tensor(*_PIXELS[media.kind])
    if pixels is None or pixels.dim() not in (4, 5) or pixels.shape[-1] != pixels.shape[-2]:
        return None
    if pixels.dim() == 4:
        return int(pixels.shape[0])
    return int(torch.count_nonzero(pixels.flatten(0, 1).flatten(1).any(1)))


FINDERS: tuple[Callable[[Media], Grids | None], ...] = (
    from_grid_inputs,
    from_views,
    from_coordinates,
    from_resolutions,
    from_pixel_sizes,
    from_frames,
    from_lines,
    from_named_tiles,
    from_known_tiles,
    from_crops,
)
