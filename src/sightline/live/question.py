"""What a person asks of the live page, read from requests."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sightline.data.messages import Part, Turn
from sightline.data.sample import Sample
from sightline.errors import InputError

MOST_IMAGES = 8
MOST_TOKENS = 1024
MOST_PIXELS = 64 * 10**6
"""Of one picture."""

VIEWS = ("as it is", "blank", "another", "without")
"""What the model is shown in the place of the pictures."""


@dataclass(frozen=True)
class LiveQuestion:
    """What a person asks.

    prompt: the words of the latest turn.
    turns: earlier questions, each with its answer; the pictures belong to the first question.
    images: encoded pictures as they were uploaded.
    method: a spec such as "vcd:alpha=1", or "none".
    view: "as it is", "blank" (every picture grey), "another" (the pictures of `others`), or "without" (no picture).
    new_tokens: at most so many.
    """

    prompt: str
    images: tuple[bytes, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()
    method: str = "none"
    view: str = "as it is"
    new_tokens: int = 64
    others: tuple[bytes, ...] = ()

    def sample(self) -> Sample:
        """The sample that the model is given.

        Raises:
            InputError: for an unknown view, an empty prompt, and pictures that cannot be read.
        """
        if self.view not in VIEWS:
            raise InputError(f"There is no view {self.view!r}: give {', '.join(map(repr, VIEWS))}.")
        if self.view == "another" and not self.others:
            raise InputError("There is no other picture yet: choose one beside, or ask with the picture as it is.")
        if not self.prompt.strip():
            raise InputError("The question is empty: write some words.")
        images: Sequence[bytes | Image.Image] = {"without": (), "another": self.others}.get(self.view, self.images)
        if self.view == "blank":
            pictures = Sample(prompt=self.prompt, images=self.images).load_images()
            images = [Image.new("RGB", picture.size, (128, 128, 128)) for picture in pictures]
        if not self.turns:
            return Sample(prompt=self.prompt, images=tuple(images), id="live")
        turns = [Turn("user", (*(Part("image", image) for image in images), Part("text", self.turns[0][0])))]
        for (_, answer), words in zip(self.turns, [*(words for words, _ in self.turns[1:]), self.prompt], strict=True):
            turns += [Turn("assistant", (Part("text", answer),)), Turn("user", (Part("text", words),))]
        return Sample(messages=tuple(turns), id="live")


@dataclass(frozen=True)
class Cut:
    """What is hidden while an answer is read again.

    positions: of the prompt, hidden from every later row in all layers.
    heads: (layer, head), whose output is set to zero.
    """

    positions: tuple[int, ...] = ()
    heads: tuple[tuple[int, int], ...] = ()


def question_of(body: dict[str, Any]) -> LiveQuestion:
    """The question in a request's body; InputError for what is none."""
    prompt, images = body.get("prompt"), body.get("images", [])
    method, view, tokens = body.get("method") or "none", body.get("view") or "as it is", body.get("new_tokens", 64)
    if not isinstance(prompt, str) or not isinstance(method, str) or not isinstance(view, str):
        raise InputError("prompt, method and view are words.")
    others = body.get("others", [])
    for name, given in (("images", images), ("others", others)):
        if not isinstance(given, list) or not all(isinstance(image, str) for image in given):
            raise InputError(f"{name} is a list of pictures as data: addresses.")
        if len(given) > MOST_IMAGES:
            raise InputError(f"{len(given)} pictures were given: give at most {MOST_IMAGES}.")
    turns = body.get("turns", [])
    if not isinstance(turns, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(words, str) for words in turn) for turn in turns
    ):
        raise InputError("turns is a list of [question, answer].")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= MOST_TOKENS:
        raise InputError(f"new_tokens is {tokens!r}: give 1 to {MOST_TOKENS}.")
    earlier = tuple((question, answer) for question, answer in turns)
    pictures, instead = (tuple(map(_picture, given)) for given in (images, others))
    return LiveQuestion(prompt, pictures, earlier, method, view, tokens, instead)


def _picture(address: str) -> bytes:
    head, comma, content = address.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        raise InputError("A picture is no data: address of an image.")
    try:
        encoded = base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise InputError("A picture's base64 is broken: upload it again.") from error
    _check_size(encoded)
    return encoded


def _check_size(encoded: bytes) -> None:
    """InputError for a picture of too many pixels, before they are decoded; what is no picture is refused later."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as picture:
                width, height = picture.size
    except Image.DecompressionBombError:
        width = height = MOST_PIXELS
    except (OSError, ValueError, SyntaxError):
        return
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 10**6
        raise InputError(f"A picture has more than {most} megapixels: give a smaller copy of it.")


def cut_of(body: dict[str, Any]) -> Cut:
    """The cut in a request's body; InputError for what is none."""
    positions, heads = body.get("positions", []), body.get("heads", [])
    is_number = lambda value: isinstance(value, int) and not isinstance(value, bool)  # noqa: E731
    if not isinstance(positions, list) or not all(map(is_number, positions)):
        raise InputError("positions is a list of whole numbers.")
    if not isinstance(heads, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) for pair in heads
    ):
        raise InputError("heads is a list of [layer, head].")
    return Cut(tuple(sorted(set(positions))), tuple((layer, head) for layer, head in heads))
