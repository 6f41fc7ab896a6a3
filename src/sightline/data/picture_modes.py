"""Pillow's modes of pictures as RGB: what lies under transparency, and grey of more than 8 bits."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError, SightlineWarning

if TYPE_CHECKING:
    from PIL import Image


def as_rgb(picture: Image.Image) -> Image.Image:
    """Colours on white where the picture lets them through; 16-bit grey as 8-bit, which Pillow itself would clip."""
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if picture.mode in ("La", "RGBa"):  # colours multiplied by their alpha
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    lit = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", lit.size, "white"), lit).convert("RGB")


def scaled_grey(picture: Image.Image, name: str) -> Image.Image:
    """8-bit grey of a picture of 32-bit whole numbers or floats: from its least value, black, to its largest, white.

    No file says which of its values are black and white: a warning names the range. One value alone is read by the
    narrowest usual range that holds it: 0 to 1 of floats, 0 to 255, 0 to 65535.
    """
    from PIL import Image

    extremes: Any = picture.getextrema()
    least, most = map(float, extremes)
    if not (math.isfinite(least) and math.isfinite(most)) or _has_nan(picture):
        raise InputError(f"The image {name} holds values that are no numbers: give a picture of 8 or 16 bits.")
    words = f"The image {name} has {'32-bit' if picture.mode == 'I' else 'float'} grey, scaled from its range"
    warnings.warn(f"{words} {least:g} to {most:g} to black and white.", SightlineWarning, stacklevel=5)
    if least == most:
        ends = [end for end in (1, 255, 65535) if 0 <= least <= end and (end > 1 or picture.mode == "F")]
        return Image.new("L", picture.size, round(255 * least / ends[0]) if ends else 128)
    scale = 255 / (most - least)
    floats = picture.convert("F").point(lambda value: value * scale + (-least * scale + 0.5))
    return floats.convert("L")


def _has_nan(picture: Image.Image) -> bool:
    import numpy as np

    return picture.mode == "F" and not bool(np.isfinite(np.asarray(picture)).all())
