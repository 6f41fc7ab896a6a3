"""Pictures: whatever the source, the RGB pixels that a model's processor is given.

They are those that Transformers' own processors make of `PIL.Image.open(file)`: transparency lies on white. Beyond that
a picture stands upright, and where Pillow's conversion would clip (16-bit and 32-bit grey, floats) it is scaled.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

from sightline.data.kept_pictures import KeptPictures
from sightline.data.picture_modes import as_rgb, scaled_grey
from sightline.errors import InputError
from sightline.files.paths import require_file
from sightline.text import shortened


class EncodedImage(Protocol):
    """An image whose bytes are fetched when its turn comes, as from a row of a memory-mapped table.

    A `name`, where there is one, says in errors which image it is.
    """

    def read(self) -> bytes:
        """The whole file, encoded as PNG, JPEG, ..."""


if TYPE_CHECKING:
    from PIL import Image

    ImageLike: TypeAlias = str | Path | bytes | EncodedImage | Image.Image

PIXEL_LIMIT = 4096 * 4096
"""Larger images are reduced to at most so many pixels before a model's processor sees them. What it makes of them is
smaller still (Qwen2-VL, the largest known, takes 12.8 million pixels), but it works in float32 on the whole picture."""

DECODED_LIMIT = 768 * 2**20
"""Images that take more bytes than this when decoded are refused: 14,000 x 14,000 pixels in colour."""

SIDE_MINIMUM = 4
"""Smaller sides are enlarged by a whole factor: a processor takes a picture 1 or 3 pixels high for channels first."""

_ORIENTATION = 0x0112
_ADDRESS = re.compile(r"data:|file:|[a-z][a-z0-9+.-]+://", re.ASCII | re.IGNORECASE)
_BYTES_A_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""What Pillow holds a pixel in, by mode; 4 elsewhere."""


def is_address(name: str) -> bool:
    """Whether a name is no file's but an address: data:, http:, https:, file:."""
    return bool(_ADDRESS.match(name))


def load_image(source: ImageLike) -> Image.Image:
    """An RGB picture, turned upright by its orientation, neither too large nor too small for a processor.

    Raises InputError when the file, or what `read` gives, is missing, empty, cut short, no image, or would take more
    than DECODED_LIMIT bytes.
    """
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return _fit(ImageOps.exif_transpose(source), "given as a picture")
    picture = _KEPT.get(source)
    if picture is None:
        picture = _decoded(source)
        _KEPT.put(source, picture)
    return picture


_KEPT = KeptPictures()


def _decoded(source: str | Path | bytes | EncodedImage) -> Image.Image:
    from PIL import Image

    file, name = _opened(source)
    try:
        with _large_images_allowed(), Image.open(file) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                _decode_reduced(picture)
            _refuse_too_large(picture, name)
            picture.load()
            # Read behind the decoding: the reader of TIFF turns the picture and takes the tag away.
            orientation = picture.getexif().get(_ORIENTATION, 1)
            return _upright(_fit(picture, name), orientation)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise InputError(f"The image {name} cannot be read ({_reason(error)}).") from error


def _opened(source: str | Path | bytes | EncodedImage) -> tuple[Path | IO[bytes], str]:
    """What Pillow opens, and the name that errors give it."""
    if isinstance(source, str) and is_address(source):
        source = _from_address(source)
    if not isinstance(source, str | Path):
        name = _name_of(source)
        content = read_content(source)
        if not content:
            raise InputError(f"The image {name} is empty (zero bytes).")
        return io.BytesIO(content), name
    return require_file(source, "image", "give an image file"), shortened(str(source))


def _from_address(address: str) -> bytes:
    """The bytes that a data: URI holds; InputError for an address that would have to be fetched."""
    scheme = address.partition(":")[0].lower()
    if scheme != "data":
        raise InputError(
            f"The image {shortened(address)} is an address, and nothing is fetched: save the picture and give its file "
            "name."
        )
    head, comma, body = address.partition(",")
    if not comma:
        raise InputError(f"The image {address[:40]} is a data: URI without a comma: write data:image/png;base64,....")
    raw = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return raw
    packed = b"".join(raw.split())
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error as error:
        raise InputError(f"The image {head[:40]},... holds damaged base64: encode its file again.") from error


def _name_of(source: bytes | EncodedImage) -> str:
    return shortened(str(getattr(source, "name", "") or "given as bytes"))


def read_content(source: bytes | EncodedImage) -> bytes:
    """The whole file of an encoded image; InputError where it cannot be fetched."""
    if isinstance(source, bytes):
        return source
    if not hasattr(source, "read"):
        raise InputError(
            f"An image is a file name, the bytes of a file, an object with read(), or a Pillow picture, and "
            f"{type(source).__name__} is none of them."
        )
    try:
        return source.read()
    except (OSError, ValueError) as error:
        raise InputError(f"The image {_name_of(source)} cannot be fetched ({_reason(error)}).") from error


_allowing = threading.Lock()


@contextmanager
def _large_images_allowed() -> Iterator[None]:
    """Lifts Pillow's own limit, which stands for the whole process, for as long as one file is read."""
    from PIL import Image

    with _allowing:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode_reduced(picture: Any) -> None:
    """Have a format that can do so decode at a half, a quarter, ...: JPEG and JPEG 2000."""
    fitting = _fitting_size(picture.size)
    if picture.format == "JPEG2000":
        picture.reduce = max(0, math.floor(math.log2(picture.width / fitting[0])))
    elif not picture.info.get("progressive"):
        picture.draft("RGB", fitting)
    else:
        before = picture.size
        picture.draft("RGB", fitting)
        held = before[0] * before[1] * 6  # all coefficients of three channels, two bytes each, before the first pixel
        if held > DECODED_LIMIT:
            raise InputError(
                f"A progressive JPEG of {before[0]} x {before[1]} pixels takes {held / 2**30:.1f} GB to decode: "
                "save it smaller, or not progressive."
            )


def _refuse_too_large(picture: Any, name: str) -> None:
    width, height = picture.size
    if picture.format == "JPEG2000":
        width, height = (side >> getattr(picture, "_reduce", 0) for side in picture.size)
    held = width * height * _BYTES_A_PIXEL.get(picture.mode, 4)
    if held > DECODED_LIMIT:
        raise InputError(
            f"The image {name} is {width} x {height} pixels, which take {held / 2**30:.1f} GB, and "
            f"{DECODED_LIMIT / 2**30:.2f} is the most: save it smaller."
        )


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a kind that Pillow knows"
    return shortened(" ".join(str(error).split()) or type(error).__name__, 200)


def _fit(picture: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    picture.load()
    if picture.mode in ("I", "F"):
        picture = scaled_grey(picture, name)
    if picture.width * picture.height > PIXEL_LIMIT:
        return _reduced(picture).resize(_fitting_size(picture.size), Image.Resampling.BICUBIC)
    rgb = as_rgb(picture)
    if min(rgb.size) < SIDE_MINIMUM:
        factor = math.ceil(SIDE_MINIMUM / min(rgb.size))
        return rgb.resize((rgb.width * factor, rgb.height * factor), Image.Resampling.NEAREST)
    return rgb


def _fitting_size(size: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape within PIXEL_LIMIT."""
    shrink = math.sqrt(PIXEL_LIMIT / (size[0] * size[1]))
    return max(SIDE_MINIMUM, int(size[0] * shrink)), max(SIDE_MINIMUM, int(size[1] * shrink))


def _reduced(picture: Image.Image) -> Image.Image:
    """The picture in RGB, shrunk by a whole factor per axis to no less than the fitting size.

    Works on strips, so that beside the decoded picture only the small one is held.
    """
    from PIL import Image

    fitting = _fitting_size(picture.size)
    across, down = max(1, picture.width // fitting[0]), max(1, picture.height // fitting[1])
    small = Image.new("RGB", (math.ceil(picture.width / across), math.ceil(picture.height / down)))
    strip_height = down * max(1, 2**22 // (picture.width * down))
    for top in range(0, picture.height, strip_height):
        strip = picture.crop((0, top, picture.width, min(top + strip_height, picture.height)))
        small.paste(as_rgb(strip).reduce((across, down)), (0, top // down))
    return small


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    if orientation not in turns:
        return picture
    upright = picture.transpose(turns[orientation])
    upright.info.pop("exif", None)  # which would have it turned once more when it is loaded again
    return upright


def kind_of(content: bytes) -> str:
    """The ending of a file of these bytes, "image" where Pillow does not know it: that shows when it is loaded."""
    from PIL import Image

    try:
        with _large_images_allowed(), Image.open(io.BytesIO(content)) as picture:
            return str(picture.format).lower()
    except (OSError, ValueError, SyntaxError):
        return "image"
