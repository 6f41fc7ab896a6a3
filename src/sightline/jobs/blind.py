"""How much of a score the image earns: every item also without its image, a blank one, another item's, or its blocks.

A model that answers from language has the same score without looking. The views are conditions like methods, on the
same items and compared with the first method in pairs. The tilted prompt is a control of contrasts (arXiv 2504.10020).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.data.messages import IMAGE_MARKER
from sightline.data.pictures import load_image
from sightline.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from sightline.benchmarks.base import Item

View = Literal["no image", "blank image", "other image", "shuffled image", "prompt tilt"]

VIEWS: tuple[View, ...] = ("no image", "blank image", "other image", "shuffled image")
"""Those that take what the picture shows away."""

BLOCKS = 8
"""Rows and columns of blocks in a shuffled image."""

TILT = "Whenever possible, please select Yes."
"""What a tilted prompt ends with, so that yes gains without a look."""

GREY = (128, 128, 128)


def seen_as(view: View, items: Sequence[Item]) -> Callable[[Item], Item]:
    """What makes an item one with this view; items: all of the benchmark, whose images the others may get.

    Another item's image is that of the item half the list further on, or of the next one after it, with as many images
    and none of them the same. InputError, when its turn comes, for an item for which there is none.
    """
    if view == "no image":
        return _without
    if view == "blank image":
        return _blank
    if view == "shuffled image":
        return _shuffled
    if view == "prompt tilt":
        return lambda item: replace(item, prompt=f"{item.prompt.rstrip()} {TILT}")
    places = {item.id: place for place, item in enumerate(items)}

    def other(item: Item) -> Item:
        if not item.images:
            return item
        start = places[item.id] + max(1, len(items) // 2)
        own = set(map(_name, item.images))
        for step in range(len(items)):
            found = items[(start + step) % len(items)].images
            if len(found) == len(item.images) and own.isdisjoint(map(_name, found)):
                return replace(item, images=found)
        wanted = "an image" if len(item.images) == 1 else f"{len(item.images)} images"
        raise InputError(f"No other item has {wanted} other than {item.id}.")

    return other


def earned(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of each view the part of the first method's headline that the image earns, with its interval and p value.

    {view: {"score", "earned", "ci95", "p_value"}}; earned: positive where the score is better with the image.
    """
    sign = -1 if document["better"] == "larger" else 1
    found: dict[str, Any] = {}
    for pair in document["paired"]:
        if pair["b"] in VIEWS and pair["delta"] is not None:
            interval = pair["ci95"] and sorted(sign * end + 0.0 for end in pair["ci95"])
            score = document["methods"][pair["b"]][document["headline"]]
            about = {"score": score, "earned": sign * pair["delta"] + 0.0, "ci95": interval, "p_value": pair["p_value"]}
            found[pair["b"]] = about
    return found


def _without(item: Item) -> Item:
    return replace(item, images=(), prompt=item.prompt.replace(IMAGE_MARKER, "").strip())


def _pictures(item: Item) -> list[Image.Image]:
    return [load_image(image) for image in item.images]


def _blank(item: Item) -> Item:
    """Grey images of the same size."""
    from PIL import Image

    return replace(item, images=tuple(Image.new("RGB", picture.size, GREY) for picture in _pictures(item)))


def _shuffled(item: Item) -> Item:
    """The blocks of each image in an order drawn from the item's id: colours stay, and what it shows goes."""
    rng = random.Random(f"shuffled/{item.id}")
    return replace(item, images=tuple(_in_other_order(picture, rng) for picture in _pictures(item)))


def _in_other_order(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Its blocks all of one size; what is left over at the right and bottom stays."""
    width, height = picture.width // BLOCKS, picture.height // BLOCKS
    if not width or not height:
        return picture
    corners = [(column * width, row * height) for row in range(BLOCKS) for column in range(BLOCKS)]
    found = picture.copy()
    for (left, top), place in zip(corners, rng.sample(corners, len(corners)), strict=True):
        found.paste(picture.crop((left, top, left + width, top + height)), place)
    return found


def _name(image: Any) -> str:
    """What distinguishes images without opening them: a path, or the object's own words for itself."""
    return str(image) if isinstance(image, str | Path) else repr(image)
