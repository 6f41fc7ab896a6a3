"""How much of a score the image earns: the three views, and what is made of their scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import sightline as sl
from sightline.benchmarks.base import Item
from sightline.errors import InputError
from sightline.jobs.blind import GREY, TILT, VIEWS, seen_as


def items(*images: tuple[str, ...]) -> list[Item]:
    return [Item(str(number), "<image> What?", of) for number, of in enumerate(images)]


def test_without_its_image_nothing_marks_a_place_for_it() -> None:
    found = seen_as("no image", [])(items(("a.jpg",))[0])
    assert (found.images, found.prompt, found.id) == ((), "What?", "0")


def test_a_blank_image_has_the_size_of_the_real_one() -> None:
    item = Item("0", "What?", (Image.new("RGB", (30, 20), "red"),))
    (picture,) = seen_as("blank image", [item])(item).images
    assert isinstance(picture, Image.Image)
    assert picture.size == (30, 20)
    assert picture.getcolors() == [(600, GREY)]


def test_a_shuffled_image_has_the_same_blocks_elsewhere() -> None:
    picture = Image.effect_noise((50, 34), 90).convert("RGB")
    shuffle = seen_as("shuffled image", [])
    (found,) = shuffle(Item("0", "What?", (picture,))).images
    (again,) = shuffle(Item("0", "What?", (picture,))).images
    assert isinstance(found, Image.Image)
    assert isinstance(again, Image.Image)
    assert found.tobytes() == again.tobytes() != picture.tobytes()
    assert found.size == picture.size

    def blocks(one: Image.Image) -> list[bytes]:
        return [one.crop((x, y, x + 6, y + 4)).tobytes() for x in range(0, 48, 6) for y in range(0, 32, 4)]

    assert sorted(blocks(found)) == sorted(blocks(picture))
    assert found.crop((48, 0, 50, 34)).tobytes() == picture.crop((48, 0, 50, 34)).tobytes()


def test_a_tilted_prompt_asks_for_yes_and_keeps_the_image() -> None:
    item = Item("0", "Is it?\n", ("a.jpg",))
    found = seen_as("prompt tilt", [item])(item)
    assert (found.prompt, found.images) == (f"Is it? {TILT}", ("a.jpg",))


def test_another_items_image_is_never_its_own() -> None:
    of = items(("a",), ("a",), ("b",), ("a",), ("c", "d"), ("b",), ())
    other = seen_as("other image", of)
    for item in (*of[:4], of[5]):
        assert len(other(item).images) == 1
        assert other(item).images != item.images
    assert other(of[6]).images == ()
    with pytest.raises(InputError, match="No other item has 2 images other than"):
        other(of[4])


def test_eval_says_what_the_image_earns(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in range(2):  # the second time it is continued, and nothing is asked again
        found = sl.evaluate("tiny-llava", "shapes-pope", ["none"], limit=36, blind=True, out=run).to_dict()
    assert list(found["methods"]) == ["none", *VIEWS]
    assert found["methods"]["none"]["at_limit"] == 0.0
    for view in VIEWS:
        of = found["blind"][view]
        assert of["score"] == found["methods"][view]["accuracy"]
        assert of["earned"] == pytest.approx(found["methods"]["none"]["accuracy"] - of["score"])
        assert of["ci95"][0] <= of["earned"] <= of["ci95"][1]
    assert found["blind"]["no image"]["earned"] > 0.2
    assert len((run / "samples.jsonl").read_text().splitlines()) == (1 + len(VIEWS)) * 36
