"""Small pictures of samples, as a page carries them."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.files.json import json_text, write_atomically

PICTURES_FILE = "pictures.json"
"""What small pictures are kept in, beside a map that has none."""

SIDE = 512
"""Longest side in pixels of a picture that is kept."""

SHARP = 24
"""Samples whose pictures a page shows at that size, the first."""

SMALL_SIDES = (256, 128)
"""Longest sides of the others': the larger where all of them fit into PICTURE_BYTES."""

PICTURE_BYTES = 2_000_000
"""Of all pictures of a page."""

DRAWN = 96
"""Pictures whose sides are no longer are kept as they are, without loss."""

MOST = 8
"""Pictures of a sample that are kept, the first."""

QUALITY = 78

_ADDRESS = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def thumbnails(pictures: Sequence[Image.Image], side: int = SIDE) -> list[dict[str, Any]]:
    """The first pictures as {"width", "height", "data"}: the size of the original and a data URI of a small copy."""
    return [thumbnail(picture, side) for picture in pictures[:MOST]]


def thumbnail(picture: Image.Image, side: int = SIDE) -> dict[str, Any]:
    """One picture as {"width", "height", "data"}; side: the longest of the copy, in pixels."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    is_tiny = max(picture.size) <= DRAWN
    file = io.BytesIO()
    if is_tiny:
        small.save(file, "PNG", optimize=True)
    else:
        small.save(file, "JPEG", quality=QUALITY)
    kind = "png" if is_tiny else "jpeg"
    data = base64.b64encode(file.getvalue()).decode()
    return {"width": picture.width, "height": picture.height, "data": f"data:image/{kind};base64,{data}"}


def is_thumbnail(image: Any) -> bool:
    """Whether this is what `thumbnail` makes: nothing else, such as an address to be fetched, goes into a page."""
    if not isinstance(image, Mapping) or not isinstance(image.get("data"), str):
        return False
    sizes = [image.get("width"), image.get("height")]
    return all(type(size) is int and size > 0 for size in sizes) and _ADDRESS.fullmatch(image["data"]) is not None


def fitted(samples: Sequence[list[dict[str, Any]]]) -> None:
    """Makes the pictures of all samples but the first few smaller, in place, so that they fit a page."""
    for side in SMALL_SIDES:
        for images in samples[SHARP:]:
            images[:] = [_smaller(image, side) for image in images]
        if sum(len(image["data"]) for images in samples for image in images) <= PICTURE_BYTES:
            return


def _smaller(image: dict[str, Any], side: int) -> dict[str, Any]:
    """The same with a copy of at most that side; as it is where it is small, or cannot be read."""
    if max(image["width"], image["height"]) <= max(side, DRAWN):
        return image
    try:
        with Image.open(io.BytesIO(base64.b64decode(image["data"].partition(",")[2]))) as picture:
            if max(picture.size) <= side:
                return image
            return image | {"data": thumbnail(picture, side)["data"]}
    except (OSError, ValueError, binascii.Error):
        return image


def keep_thumbnails(pictures: Sequence[Image.Image], folder: Path) -> None:
    """Writes pictures.json into a folder, for `sightline report`."""
    write_atomically(folder / PICTURES_FILE, json_text({"images": thumbnails(pictures)}))
