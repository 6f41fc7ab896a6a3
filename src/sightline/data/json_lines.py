"""Samples in a file of JSON lines: read, and written so that they are read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.messages import Part, Turn, read_turns, with_parts
from sightline.data.pictures import is_address, kind_of, read_content
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.paths import require_file
from sightline.text import shortened

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike


def read_samples(path: str | Path) -> list[Sample]:
    """The samples of a JSON-lines file: one {"id", "image" or "images", "prompt", "answer"?} a line.

    Also "messages", a conversation in place of the prompt; "video", a list of frames; and "audio". File names are
    relative to the JSON-lines file. A line without "id" is named by its number. Empty lines are passed over. Raises
    InputError, naming file and line, at the first line that is no such object, and when two lines carry one id; whether
    images can be read shows only when they are loaded.
    """
    path = require_file(path, "data file", "give a JSON-lines file", may_be_empty=True)
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        sample = _parse(line, f"{path}, line {number}", str(number), path.parent)
        if sample.id in lines:
            name = shortened(repr(sample.id))
            raise InputError(f"{path}, line {number}: the id {name} is already that of line {lines[sample.id]}.")
        lines[sample.id] = number
        samples.append(sample)
    if not samples:
        raise InputError(f'The data file {path} holds no sample: one {{"id", "image", "prompt"}} a line is expected.')
    return samples


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file; InputError where it is none, naming the line."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"The data file {path} is in UTF-16: save it as UTF-8.") from error
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {number}: not UTF-8 text; a JSON-lines file is expected.") from error
    except OSError as error:
        raise InputError(f"The data file {path} cannot be read ({error.strerror}).") from error


def _parse(line: str, where: str, number: str, folder: Path) -> Sample:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        deep = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        reason = getattr(error, "msg", deep)
        raise InputError(f"{where}: not valid JSON ({reason}); one object a line is expected.") from error
    if not isinstance(record, dict):
        raise InputError(f'{where}: not a JSON object; {{"id", "image", "prompt"}} is expected.')
    return row_sample(record, number, f"{where}: ", folder)


FIELDS = ("id", "image", "images", "prompt", "messages", "answer", "video", "audio")
"""What a row has for the sample itself; its other words and numbers are what is known about it."""


def row_sample(record: Mapping[str, Any], number: str, where: str = "", folder: Path | None = None) -> Sample:
    """The sample of one row: {"id", "image" or "images", "prompt" or "messages", "answer"?, "video"?, "audio"?}.

    Args:
        number: the id of a row without one.
        where: what errors begin with.
        folder: what file names are relative to; with it only file names are images, as in a file.

    Raises:
        InputError: for a row that is no sample.
    """
    if record.get("image") is not None and record.get("images") is not None:
        raise InputError(f'{where}both "image" and "images"; give one of them.')
    prompt, messages = record.get("prompt"), record.get("messages")
    if messages is None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InputError(f'{where}"prompt" is missing or empty; give the words to ask the model.')
    if messages is not None and prompt is not None:
        raise InputError(f'{where}both "prompt" and "messages"; give one of them.')
    name, answer = record.get("id"), record.get("answer")
    audio = _files(record, "audio", where, folder)
    video = _files(record, "video", where, folder)
    images = _files(record, "image", where, folder) + _files(record, "images", where, folder)
    try:
        return Sample(
            prompt=prompt or "",
            images=images,
            answer=None if answer is None else str(answer),
            id=number if name is None else str(name),
            video=video or None,
            audio=audio[0] if audio else None,
            messages=None if messages is None else _located(messages, folder),
            about={name: value for name, value in record.items() if name not in FIELDS and _is_plain(value)},
        )
    except InputError as error:
        raise InputError(f"{where}{error}") from error


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and value == value


def _located(messages: Any, folder: Path | None) -> tuple[Turn, ...]:
    """The turns, their file names relative to the folder."""

    def locate(part: Part) -> Part:
        if part.kind == "text" or part.content is None:
            return part
        if part.kind == "video":
            return Part(part.kind, tuple(_placed(frame, folder) for frame in part.content))
        return Part(part.kind, _placed(part.content, folder))

    return with_parts(read_turns(messages), locate)


def _placed(name: Any, folder: Path | None) -> Any:
    return folder / name if folder is not None and isinstance(name, str) and not is_address(name) else name


def _files(record: Mapping[str, Any], field: str, where: str, folder: Path | None) -> tuple[Any, ...]:
    value = record.get(field)
    if value is None:
        return ()
    names = value if isinstance(value, list | tuple) else [value]
    if folder is not None and not all(isinstance(name, str) and name for name in names):
        raise InputError(f'{where}"{field}" must be a file name or a list of file names.')
    return tuple(_placed(name, folder) for name in names)


def write_samples(path: str | Path, samples: Iterable[Sample]) -> None:
    """Writes a JSON-lines file that `read_samples` reads back.

    Pillow pictures are saved as PNG in a folder `images` beside it, encoded ones as they are. File names are written
    relative to the JSON-lines file where they stand below its folder, and absolute otherwise.
    """
    path = Path(path)
    with path.open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples, start=1):
            record = _record(sample, number, path.parent)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _record(sample: Sample, number: int, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {"id": sample.id or str(number)} | dict(sample.about)
    images = [_file_of(image, folder, f"{number}-{order}") for order, image in enumerate(sample.images)]
    if images:
        record |= {"image": images[0]} if len(images) == 1 else {"images": images}
    if sample.video is not None:
        record["video"] = [
            _file_of(frame, folder, f"{number}-frame-{order}") for order, frame in enumerate(sample.video)
        ]
    if sample.audio is not None:
        record["audio"] = _relative(Path(sample.audio), folder)
    if sample.messages is None:
        record["prompt"] = sample.prompt
    else:
        record["messages"] = [{"role": turn.role, "content": _bare(turn)} for turn in sample.messages]
    if sample.answer is not None:
        record["answer"] = sample.answer
    return record


def _bare(turn: Turn) -> list[dict[str, str]]:
    """The parts of a turn, images and the like as places that the fields beside the messages fill."""
    return [
        {"type": "text", "text": part.content} if part.kind == "text" else {"type": part.kind} for part in turn.parts
    ]


def _file_of(image: ImageLike, folder: Path, stem: str) -> str:
    if isinstance(image, str) and is_address(image):
        return image
    if isinstance(image, str | Path):
        return _relative(Path(image), folder)
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    if isinstance(image, Image.Image):
        target = folder / "images" / f"{stem}.png"
        image.save(target)
    else:
        content = read_content(image)
        target = folder / "images" / f"{stem}.{kind_of(content)}"
        target.write_bytes(content)
    return _relative(target, folder)


def _relative(path: Path, folder: Path) -> str:
    whole, root = path.resolve(), folder.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)
