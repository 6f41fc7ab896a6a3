"""What a person asks of the live page, read from requests."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sightline.data.messages import Part, Turn
from sightline.data.sample import Sample
from sightline.errors import InputError

MOST_IMAGES = 8
MOST_TOKENS = 1024


@dataclass(frozen=True)
class Question:
    """What a person asks.

    prompt: the words of the latest turn.
    turns: earlier questions, each with its answer; the pictures belong to the first question.
    images: encoded pictures as they were uploaded.
    method: a spec such as "vcd:alpha=1", or "none".
    view: "as it is", "blank" (every picture grey), or "without" (no picture at all).
    new_tokens: at most so many.
    """

    prompt: str
    images: tuple[bytes, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()
    method: str = "none"
    view: str = "as it is"
    new_tokens: int = 64

    def sample(self) -> Sample:
        """The sample that the model is given.

        Raises:
            InputError: for an unknown view, an empty prompt, and pictures that cannot be read.
        """
        if self.view not in ("as it is", "blank", "without"):
            raise InputError(f"There is no view {self.view!r}: give 'as it is', 'blank' or 'without'.")
        if not self.prompt.strip():
            raise InputError("The question is empty: write some words.")
        images: Sequence[bytes | Image.Image] = self.images if self.view != "without" else ()
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


def question_of(body: dict[str, Any]) -> Question:
    """The question in a request's body; InputError for what is none."""
    prompt, images = body.get("prompt"), body.get("images", [])
    method, view, tokens = body.get("method") or "none", body.get("view") or "as it is", body.get("new_tokens", 64)
    if not isinstance(prompt, str) or not isinstance(method, str) or not isinstance(view, str):
        raise InputError("prompt, method and view are words.")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise InputError("images is a list of pictures as data: addresses.")
    turns = body.get("turns", [])
    if not isinstance(turns, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(words, str) for words in turn) for turn in turns
    ):
        raise InputError("turns is a list of [question, answer].")
    if len(images) > MOST_IMAGES:
        raise InputError(f"{len(images)} pictures were given: give at most {MOST_IMAGES}.")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= MOST_TOKENS:
        raise InputError(f"new_tokens is {tokens!r}: give 1 to {MOST_TOKENS}.")
    earlier = tuple((question, answer) for question, answer in turns)
    return Question(prompt, tuple(map(_picture, images)), earlier, method, view, tokens)


def _picture(address: str) -> bytes:
    head, comma, content = address.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        raise InputError("A picture is no data: address of an image.")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise InputError("A picture's base64 is broken: upload it again.") from error


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
