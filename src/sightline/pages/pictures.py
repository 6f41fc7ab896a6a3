"""Small pictures of samples, as a page carries them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.files.json import json_text, write_atomically

if TYPE_CHECKING:
    from PIL import Image

PICTURES_FILE = "pictures.json"
"""What small pictures are kept in, beside a map that has none."""

SIDE = 256
"""Longest side of a thumbnail in pixels."""

DRAWN = 96
"""Pictures whose sides are no longer are kept as they are, without loss."""

MOST = 8
"""Pictures of a sample that are kept, the first."""

QUALITY = 78


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


def keep_thumbnails(pictures: Sequence[Image.Image], folder: Path) -> None:
    """Writes pictures.json into a folder, for `sightline report`."""
    write_atomically(folder / PICTURES_FILE, json_text({"images": thumbnails(pictures)}))
