"""Where the tiles of a picture lie in it, for processors that cut pictures up and do not say how.

A picture whose red grows from left to right and whose green grows from top to bottom is put through the processor in
place of the real one of the same size: the colours of each tile say which part of the picture it shows. Nothing about
any family is assumed but that its tiles come in the order of their tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sightline.models.layout.patches import WHOLE, Box, Tiles, cuts_up

if TYPE_CHECKING:
    from PIL import Image

LEAST, MOST = 16.0, 240.0
"""The colours at a picture's edges; beyond them a resampling that overshoots would be cut off."""

PLAIN = 128
"""Blue, everywhere alike."""

TOLERANCE, EXACT = 0.02, 0.008
"""Shares of a side: by which a ramp may be uneven, and by which a measured edge may miss the one it is."""


class TilePlaces:
    """The tiles of encoded prompts, kept for as long as their inputs are."""

    def __init__(self) -> None:
        self._measured: dict[tuple[Any, ...], tuple[Box | None, ...] | None] = {}
        self._known: Any = WeakTensorKeyDictionary()  # from input ids to their rows and tiles

    def note(self, processor: Any, pictures: Sequence[Sequence[Image.Image]], inputs: Any, options: Any) -> None:
        """Measure what stands in the pictures' places in encoded inputs, where they were cut up."""
        pixels = inputs.get("pixel_values")
        count = sum(map(len, pictures))
        crops = _crops(pixels)
        if crops is None or not count or crops < count or getattr(processor, "image_processor", None) is None:
            return
        if crops == count:
            if cuts_up(processor):
                self._known[inputs["input_ids"]] = (
                    inputs["input_ids"].tolist(),
                    [[(WHOLE,)] * len(m) for m in pictures],
                )
            return
        settings = _image_options(options)
        tiles = [[self._of(processor, picture.size, settings) for picture in mine] for mine in pictures]
        if all(boxes is not None for mine in tiles for boxes in mine):
            known = [[boxes for boxes in mine if boxes is not None] for mine in tiles]
            if sum(len(boxes) for mine in known for boxes in mine) == crops:
                self._known[inputs["input_ids"]] = (inputs["input_ids"].tolist(), known)

    def find(self, inputs: Mapping[str, Any]) -> Tiles | None:
        """The tiles of these inputs, or of rows alike in inputs that are still there; None where none are known.

        Where two prompts of the same tokens have pictures that are cut up in different ways, neither is chosen.
        """
        ids = inputs.get("input_ids")
        if not isinstance(ids, Tensor) or not self._known:
            return None
        if ids in self._known:
            return self._known[ids][1]  # type: ignore[no-any-return]
        found: Tiles = []
        for row in ids.tolist():
            alike = [
                tiles[place]
                for rows, tiles in self._known.values()
                for place, known in enumerate(rows)
                if _is_same(known, row)
            ]
            if not alike or any(tiles != alike[0] for tiles in alike):
                return None
            found.append(alike[0])
        return found

    def _of(self, processor: Any, size: tuple[int, int], options: dict[str, Any]) -> tuple[Box | None, ...] | None:
        key = (size, repr(sorted(options.items())))
        if key not in self._measured:
            self._measured[key] = measured_boxes(processor.image_processor, size, options)
        return self._measured[key]


def _is_same(known: list[int], row: list[int]) -> bool:
    """Whether rows hold the same prompt, whatever padding stands before the shorter one."""
    short, long = sorted((known, row), key=len)
    return long[len(long) - len(short) :] == short and len(set(long[: len(long) - len(short)])) <= 1


def _crops(pixels: Any) -> int | None:
    """Crops in a batch of pixels, [crops, channels, height, width]; None where they have another form."""
    return len(pixels) if isinstance(pixels, Tensor) and pixels.dim() == 4 else None


def _image_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a processor's keyword arguments those for pictures."""
    plain = {
        name: value for name, value in options.items() if name in ("crop_to_patches", "max_patches", "min_patches")
    }
    return {**plain, **options.get("images_kwargs", {})}


def measured_boxes(
    image_processor: Any, size: tuple[int, int], options: Mapping[str, Any]
) -> tuple[Box | None, ...] | None:
    """For each tile of a picture of (width, height) pixels the part it shows, as shares of its sides.

    None in place of a tile that shows more than the picture, as the padding beside it; None for all where the processor
    cannot be measured.
    """
    try:
        raw = {"do_normalize": False, "do_rescale": False}
        output = image_processor(images=[_ramps(size)], return_tensors="pt", **{**options, **raw})
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    pixels = output.get("pixel_values")
    if _crops(pixels) is None or pixels.shape[1] != 3:
        return None
    found = [_measured(torch.as_tensor(crop).float()) for crop in pixels]
    known = [box for box in found if box is not None]
    across = iter(_snapped([side for left, _, right, _ in known for side in (left, right)]))
    down = iter(_snapped([side for _, top, _, bottom in known for side in (top, bottom)]))
    boxes: list[Box | None] = []
    for box in found:
        if box is None:
            boxes.append(None)
            continue
        left, right, top, bottom = next(across), next(across), next(down), next(down)
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def _measured(crop: Float[Tensor, "colours height width"]) -> Box | None:
    """The part of the picture that a tile shows; None where it shows anything else."""
    red, green, blue = crop
    if (blue - PLAIN).abs().max() > PLAIN * TOLERANCE:
        return None
    across, down = _edges(red.mean(0)), _edges(green.mean(1))
    if across is None or down is None:
        return None
    return across[0], down[0], across[1], down[1]


def _ramps(size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = np.rint(LEAST + (MOST - LEAST) * (np.arange(width) + 0.5) / width)
    picture[..., 1] = np.rint(LEAST + (MOST - LEAST) * (np.arange(height) + 0.5) / height)[:, None]
    picture[..., 2] = PLAIN
    return Image.fromarray(picture)


def _edges(profile: Float[Tensor, " pixels"]) -> tuple[float, float] | None:
    """Where a tile begins and ends along one side, from the colours along it; None where they are no even ramp."""
    shares = ((profile - LEAST) / (MOST - LEAST)).double().numpy()
    inner = slice(len(shares) // 8, len(shares) - len(shares) // 8)  # a resampling bends the ramp at the picture's ends
    places = np.arange(len(shares)) + 0.5
    slope, start = np.polyfit(places[inner], shares[inner], 1)
    end = start + slope * len(shares)
    is_even = np.abs(start + slope * places[inner] - shares[inner]).max() < TOLERANCE
    return (float(start), float(end)) if slope > 0 and is_even and start > -TOLERANCE and end < 1 + TOLERANCE else None


def _snapped(edges: Sequence[float]) -> list[float]:
    """Edges as the parts of a side divided evenly that they lie nearest to, where all do; else as measured."""
    for parts in range(1, 2 * len(edges) + 2):
        if all(abs(edge * parts - round(edge * parts)) < min(EXACT * parts, 0.25) for edge in edges):
            return [round(edge * parts) / parts for edge in edges]
    return [min(1.0, max(0.0, round(edge, 3))) for edge in edges]
