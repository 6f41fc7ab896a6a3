"""Chat messages: turns of system, user and assistant, with text, images, videos and sounds in any order."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sightline.errors import InputError

Kind = Literal["text", "image", "video", "audio"]
Role = Literal["system", "user", "assistant"]

IMAGE_MARKER = "<image>"
"""Where an image stands within words."""

_FORMS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "text": ("text", ("text",)),
    "image": ("image", ("image", "path", "url", "base64")),
    "image_url": ("image", ("image_url",)),
    "video": ("video", ("video",)),
    "audio": ("audio", ("audio", "path")),
}
"""What a part's "type" stands for, and the fields that may hold its content."""


@dataclass(frozen=True)
class Part:
    """A piece of a turn.

    kind     text, image, video or audio
    content  the words; an image as `Sample.images` takes it; a video's frames; a sound file. None: to be filled in
    """

    kind: Kind
    content: Any = None


@dataclass(frozen=True)
class Turn:
    """What one side of a conversation says.

    role   system, user or assistant
    parts  in the order in which they come
    """

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words alone: those of several parts are joined by spaces."""
        words = self.media("text")
        return str(words[0]) if len(words) == 1 else " ".join(filter(None, map(str.strip, words)))

    @property
    def is_interleaved(self) -> bool:
        """Whether an image stands behind words."""
        kinds = [part.kind for part in self.parts]
        return "text" in kinds and "image" in kinds[kinds.index("text") :]

    def media(self, kind: Kind) -> list[Any]:
        """The content of the parts of one kind, in order."""
        return [part.content for part in self.parts if part.kind == kind]


def is_messages(value: Any) -> bool:
    """Whether a value is a conversation: a list of turns, or of mappings with a "role"."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence) or not value:
        return False
    return all(isinstance(turn, Turn) or (isinstance(turn, Mapping) and "role" in turn) for turn in value)


def read_turns(messages: Any, where: str = "") -> tuple[Turn, ...]:
    """The turns of a conversation: `Turn`s, or the mappings that chat templates take, {"role", "content"}.

    Content is a string or a list of {"type": "text" | "image" | "video" | "audio", ...}; OpenAI's image_url too.

    Raises:
        InputError: naming the message, for a role, a part or a field that is not understood.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
        raise InputError(f'The messages{where} are no list of {{"role", "content"}}.')
    turns = tuple(
        turn if isinstance(turn, Turn) else _turn(turn, f"message {number}{where}")
        for number, turn in enumerate(messages, start=1)
    )
    if not turns:
        raise InputError(f"The messages{where} are empty: give at least what the user says.")
    return turns


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise InputError(f'The {where} is no {{"role", "content"}}.')
    unknown = [name for name, value in message.items() if name not in ("role", "content") and value is not None]
    if unknown:
        raise InputError(f'The {where} has {unknown[0]!r}, which is not understood: give "role" and "content" alone.')
    role: Any = message.get("role")
    content = message.get("content")
    if role not in get_args(Role):
        raise InputError(f"The {where} is of the role {role!r}: give {', '.join(get_args(Role))}.")
    if isinstance(content, str):
        return Turn(role, (Part("text", content),))
    if isinstance(content, Mapping) or not isinstance(content, Iterable):
        raise InputError(f'The "content" of {where} is neither words nor a list of parts.')
    parts = tuple(_part(part, where) for part in content)
    if not parts:
        raise InputError(f"The {where} is empty.")
    return Turn(role, parts)


def _part(part: Any, where: str) -> Part:
    if isinstance(part, Part):
        return part
    if isinstance(part, str):
        return Part("text", part)
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in _FORMS:
        raise InputError(f'A part of {where} has the "type" {kind!r}: give {", ".join(_FORMS)}.')
    found, names = _FORMS[kind]
    filled = {name: value for name, value in part.items() if name != "type" and value is not None}
    unknown = [name for name in filled if name not in names]
    if unknown:
        raise InputError(
            f"The {kind} in {where} has {unknown[0]!r}, which is not understood: give {' or '.join(names)}."
        )
    if len(filled) > 1:
        raise InputError(f"The {kind} in {where} is given as {' and as '.join(filled)}: give one of them.")
    name, content = next(iter(filled.items()), (names[0], None))
    if found == "text" and not isinstance(content, str):
        raise InputError(f'The text in {where} is no string: give {{"type": "text", "text": words}}.')
    if name == "image_url" and isinstance(content, Mapping):
        content = content.get("url")
    if name == "base64":
        content = _decoded(content, where)
    if found == "video" and (isinstance(content, str | Mapping) or not isinstance(content, Iterable | None)):
        raise InputError(f"The video in {where} is no list of pictures: give its frames, in order.")
    return Part(found, tuple(map(as_image, content)) if found == "video" and content else as_image(content))


def _decoded(content: Any, where: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InputError(f"The base64 of the image in {where} is damaged: encode its file again.") from error


def as_image(value: Any) -> Any:
    """An image as `Sample.images` takes it, from the {"bytes", "path"} of `datasets`; all else as it is."""
    if not isinstance(value, Mapping) or not value.keys() & {"bytes", "path"}:
        return value
    return value["bytes"] if value.get("bytes") is not None else value.get("path")


def placed(turns: Sequence[Turn], kind: Kind, contents: Sequence[Any], where: str = "") -> tuple[Turn, ...]:
    """The turns with these images (videos, sounds) in their places.

    Parts without content are filled in order; where all have some it is replaced; where there are no such parts, images
    go where `<image>` stands in the words, and else before the words of the first user turn.

    Raises:
        InputError: when the number of places is another.
    """
    parts = [part for turn in turns for part in turn.parts if part.kind == kind]
    markers = sum(part.content.count(IMAGE_MARKER) for turn in turns for part in turn.parts if part.kind == "text")
    if not parts and kind == "image" and markers:
        turns = [replace(turn, parts=tuple(_cut(turn.parts))) for turn in turns]
        parts = [Part(kind)] * markers
    elif not parts and contents:
        first = next((number for number, turn in enumerate(turns) if turn.role == "user"), 0)
        added = tuple(Part(kind, content) for content in contents)
        return tuple(
            replace(turn, parts=(*added, *turn.parts)) if number == first else turn for number, turn in enumerate(turns)
        )
    is_filling = any(part.content is None for part in parts)
    places = sum(part.content is None for part in parts) if is_filling else len(parts)
    if places != len(contents) and (is_filling or contents):
        raise InputError(
            f"The messages{where} have places for {kind}s ({places}), and {len(contents)} are given: give as many."
        )
    if not contents:
        return tuple(turns)
    rest = iter(contents)

    def fill(part: Part) -> Part:
        if part.kind != kind or (is_filling and part.content is not None):
            return part
        return Part(kind, next(rest))

    return with_parts(turns, fill)


def with_parts(turns: Iterable[Turn], change: Callable[[Part], Part]) -> tuple[Turn, ...]:
    """The turns with each part changed."""
    return tuple(replace(turn, parts=tuple(map(change, turn.parts))) for turn in turns)


def _cut(parts: Iterable[Part]) -> list[Part]:
    """Parts with the words cut at their image markers."""
    found: list[Part] = []
    for part in parts:
        pieces = part.content.split(IMAGE_MARKER) if part.kind == "text" else []
        if len(pieces) < 2:
            found.append(part)
            continue
        for number, piece in enumerate(pieces):
            if number:
                found.append(Part("image"))
            if piece:
                found.append(Part("text", piece))
    return found
