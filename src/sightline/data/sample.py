"""Sample: a prompt with its images and, where known, its answer; read from and written to JSON lines."""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from sightline.errors import InputError


class EncodedImage(Protocol):
    """An image whose bytes are fetched when its turn comes, as from a row of a memory-mapped table.

    A `name`, where there is one, says in errors which image it is.
    """

    def read(self) -> bytes:
        """The whole file, encoded as PNG, JPEG, ..."""


if TYPE_CHECKING:
    from PIL import Image

    ImageLike: TypeAlias = str | Path | bytes | EncodedImage | Image.Image

IMAGE_MARKER = "<image>"
"""Where an image stands within a prompt."""

PIXEL_LIMIT = 4096 * 4096
"""Larger images are reduced to at most so many pixels before a model's processor sees them. What it makes of them is
smaller still (Qwen2-VL, the largest known, takes 12.8 million pixels), but it works in float32 on the whole picture."""

DECODED_LIMIT = 2**30
"""Images of more pixels than this are refused: decoding one would take several GB."""

SIDE_MINIMUM = 4
"""Smaller sides are enlarged by a whole factor: a processor takes a picture 1 or 3 pixels high for channels first."""


@dataclass(frozen=True)
class Sample:
    """What a model is asked.

    prompt  the user's words, without the chat template; InputError when empty. Each `<image>` in it is the place of one
            image, in order; without any, the images stand before the words
    images  files, the bytes of a file, objects with `read() -> bytes`, or Pillow pictures, in the order the model sees
            them; nothing is opened before `load_images`. `image=` is a shortcut for a single one
    answer  the right answer, where known
    id      names the sample within its data set
    video   the frames of a video, in order
    audio   a sound file
    """

    prompt: str
    images: tuple[ImageLike, ...] = ()
    answer: str | None = None
    id: str = ""
    video: tuple[ImageLike, ...] | None = None
    audio: str | Path | None = None
    image: InitVar[ImageLike | None] = None

    def __post_init__(self, image: ImageLike | None) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            where = f" of sample {self.id!r}" if self.id else ""
            raise InputError(f"The prompt{where} is empty: give the words to ask the model.")
        if image is not None and self.images:
            raise InputError("A sample takes image= or images=, not both.")
        object.__setattr__(self, "images", tuple(self.images) if image is None else (image,))
        if self.video is not None:
            object.__setattr__(self, "video", tuple(self.video))

    @property
    def has_media(self) -> bool:
        """Whether anything but text stands in the sample."""
        return bool(self.images) or bool(self.video) or self.audio is not None

    def pieces(self) -> list[str]:
        """The prompt cut at its image markers: one piece more than there are images, or a single one without markers.

        Raises InputError when there are markers, but not as many as images.
        """
        pieces = self.prompt.split(IMAGE_MARKER)
        if len(pieces) > 1 and len(pieces) - 1 != len(self.images):
            where = f" of sample {self.id!r}" if self.id else ""
            raise InputError(
                f"The prompt{where} marks places for images ({IMAGE_MARKER}: {len(pieces) - 1}), and the sample has "
                f"{len(self.images)}: give as many markers as images, or none."
            )
        return pieces

    def load_images(self) -> list[Image.Image]:
        """The images as upright RGB pictures of at most PIXEL_LIMIT pixels; InputError names the first unusable one."""
        return [load_image(image) for image in self.images]

    def load_video(self) -> list[Image.Image]:
        """The video's frames, as `load_images` does it; empty without a video."""
        return [load_image(frame) for frame in self.video or ()]


def load_image(source: ImageLike) -> Image.Image:
    """An RGB picture, turned upright by its EXIF orientation, neither too large nor too small for a processor.

    Raises InputError when the file, or what `read` gives, is missing, empty, cut short, no image, or of more than
    DECODED_LIMIT pixels.
    """
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return _fit(ImageOps.exif_transpose(source))
    file, name = _opened(source)
    try:
        with _large_images_allowed(), Image.open(file) as picture:
            _refuse_gigapixels(picture, name)
            if picture.width * picture.height > PIXEL_LIMIT:
                picture.draft("RGB", _fitting_size(picture.size))  # JPEG alone: decodes at a half, a quarter, an eighth
            orientation = picture.getexif().get(_ORIENTATION, 1)
            return _upright(_fit(picture), orientation)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise InputError(f"The image {name} cannot be read ({_reason(error)}).") from error


def _opened(source: str | Path | bytes | EncodedImage) -> tuple[Path | IO[bytes], str]:
    """What Pillow opens, and the name that errors give it."""
    if not isinstance(source, str | Path):
        name = _name_of(source)
        content = _content(source)
        if not content:
            raise InputError(f"The image {name} is empty (zero bytes).")
        return io.BytesIO(content), name
    if "\0" in str(source):
        raise InputError(
            f"The image {str(source)!r} holds a NUL byte, which no file name has: give the name of a file."
        )
    path = Path(source)
    if not path.exists():
        raise InputError(f"The image {path} does not exist.")
    if path.is_dir():
        raise InputError(f"The image {path} is a folder: give an image file.")
    if path.stat().st_size == 0:
        raise InputError(f"The image {path} is empty (zero bytes).")
    return path, str(path)


def _name_of(source: bytes | EncodedImage) -> str:
    return str(getattr(source, "name", "") or "given as bytes")


def _content(source: bytes | EncodedImage) -> bytes:
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


_ORIENTATION = 0x0112
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


def _refuse_gigapixels(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > DECODED_LIMIT:
        raise InputError(f"The image {name} is {width} x {height} pixels: {DECODED_LIMIT:,} pixels in all is the most.")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a kind that Pillow knows"
    return " ".join(str(error).split()) or type(error).__name__


def _fit(picture: Image.Image) -> Image.Image:
    from PIL import Image

    picture.load()
    if picture.width * picture.height > PIXEL_LIMIT:
        return _reduced(picture).resize(_fitting_size(picture.size), Image.Resampling.BICUBIC)
    rgb = _rgb(picture)
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
        small.paste(_rgb(strip).reduce((across, down)), (0, top // down))
    return small


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips everything above 255 to white
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    return picture.convert("RGB")


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


# JSON lines ---------------------------------------------------------------------------------------------------------


def read_samples(path: str | Path) -> list[Sample]:
    """The samples of a JSON-lines file: one {"id", "image" or "images", "prompt", "answer"?} a line.

    Also "video", a list of frames, and "audio". File names are relative to the JSON-lines file. A line without "id" is
    named by its number. Empty lines are passed over. Raises InputError, naming file and line, at the first line that is
    no such object, and when two lines carry one id; whether images can be read shows only when they are loaded.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"The data file {path} does not exist.")
    if path.is_dir():
        raise InputError(f"The data {path} is a folder: give a JSON-lines file.")
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        sample = _parse(line, f"{path}, line {number}", str(number), path.parent)
        if sample.id in lines:
            raise InputError(f"{path}, line {number}: the id {sample.id!r} is already that of line {lines[sample.id]}.")
        lines[sample.id] = number
        samples.append(sample)
    if not samples:
        raise InputError(f'The data file {path} holds no sample: one {{"id", "image", "prompt"}} a line is expected.')
    return samples


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {number}: not UTF-8 text; a JSON-lines file is expected.") from error
    except OSError as error:
        raise InputError(f"The data file {path} cannot be read ({error.strerror}).") from error


def _parse(line: str, where: str, number: str, folder: Path) -> Sample:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise InputError(f"{where}: not valid JSON ({reason}); one object a line is expected.") from error
    if not isinstance(record, dict):
        raise InputError(f'{where}: not a JSON object; {{"id", "image", "prompt"}} is expected.')
    if "image" in record and "images" in record:
        raise InputError(f'{where}: both "image" and "images"; give one of them.')
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f'{where}: "prompt" is missing or empty; give the words to ask the model.')
    name = record.get("id")
    answer = record.get("answer")
    audio = _files(record, "audio", where, folder)
    video = _files(record, "video", where, folder)
    return Sample(
        prompt=prompt,
        images=_files(record, "image", where, folder) + _files(record, "images", where, folder),
        answer=None if answer is None else str(answer),
        id=number if name is None else str(name),
        video=video or None,
        audio=audio[0] if audio else None,
    )


def _files(record: Mapping[str, Any], field: str, where: str, folder: Path) -> tuple[Path, ...]:
    value = record.get(field)
    if value is None:
        return ()
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise InputError(f'{where}: "{field}" must be a file name or a list of file names.')
    return tuple(folder / name for name in names)


def write_samples(path: str | Path, samples: Iterable[Sample]) -> None:
    """Writes a JSON-lines file that `read_samples` reads back.

    Pillow pictures are saved as PNG in a folder `images` beside it, encoded ones as they are. File names are written
    relative to the JSON-lines file where they stand below its folder, and absolute otherwise.
    """
    path = Path(path)
    with path.open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples, start=1):
            name = sample.id or str(number)
            record: dict[str, Any] = {"id": name}
            images = [_file_of(image, path.parent, f"{number}-{order}") for order, image in enumerate(sample.images)]
            if images:
                record |= {"image": images[0]} if len(images) == 1 else {"images": images}
            if sample.video is not None:
                frames = enumerate(sample.video)
                record["video"] = [_file_of(frame, path.parent, f"{number}-frame-{order}") for order, frame in frames]
            if sample.audio is not None:
                record["audio"] = _relative(Path(sample.audio), path.parent)
            record["prompt"] = sample.prompt
            if sample.answer is not None:
                record["answer"] = sample.answer
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _file_of(image: ImageLike, folder: Path, stem: str) -> str:
    if isinstance(image, str | Path):
        return _relative(Path(image), folder)
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    if isinstance(image, Image.Image):
        target = folder / "images" / f"{stem}.png"
        image.save(target)
    else:
        content = _content(image)
        target = folder / "images" / f"{stem}.{_kind_of(content)}"
        target.write_bytes(content)
    return _relative(target, folder)


def _kind_of(content: bytes) -> str:
    """The ending of a file of these bytes, "image" where Pillow does not know it: that shows when it is loaded."""
    from PIL import Image

    try:
        with _large_images_allowed(), Image.open(io.BytesIO(content)) as picture:
            return str(picture.format).lower()
    except (OSError, ValueError, SyntaxError):
        return "image"


def _relative(path: Path, folder: Path) -> str:
    whole, root = path.resolve(), folder.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)
