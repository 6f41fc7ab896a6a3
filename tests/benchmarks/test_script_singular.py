"""CHAIR's default makes singulars as the Python 3 script in use does, odd ones included."""

from __future__ import annotations

import pytest

from sightline.benchmarks import find_bench
from sightline.benchmarks.base import Item
from sightline.benchmarks.singular import find_singularize

WORDS = {
    "bus": "bu", "buses": "bus", "minibus": "minibu", "glass": "glas", "glasses": "glass", "ties": "ty", "tie": "tie",
    "canoes": "cano", "magpies": "magpy", "collies": "collies", "doggies": "doggies", "oxen": "ox", "oxens": "oxs",
    "puppies": "puppy", "ponies": "pony", "policemen": "policeman", "women": "woman", "people": "person",
    "children": "child", "grandchildren": "grandchild", "geese": "goose", "mice": "mouse", "knives": "knife",
    "gloves": "glove", "calves": "calf", "wolves": "wolf", "scarves": "scarf", "leaves": "leaf", "shoes": "shoe",
    "potatoes": "potato", "horses": "horse", "vases": "vase", "benches": "bench", "boxes": "box", "skis": "ski",
    "scissors": "scissors", "sheep": "sheep", "sports": "sport", "tennis": "tenni", "axes": "axe", "roses": "rose",
    "houses": "house", "bases": "basis", "pasta": "pastum", "spaghetti": "spaghettus", "pizza": "pizza", "s": "s",
    "olives": "olife", "dog's": "dog'", "cookies": "cookies", "zombies": "zombies", "movies": "movie", "news": "news",
}  # fmt: skip


@pytest.mark.parametrize(("word", "singular"), WORDS.items())
def test_words(word: str, singular: str) -> None:
    assert find_singularize("script", ())([word]) == [singular]


def test_it_is_the_default_and_plain_an_option() -> None:
    item = Item("1", "", truth=[])
    for fields, found in (({}, []), ({"singular": "plain"}, [["bus", "bus"]])):
        assert find_bench("chair", **fields).judge(item, "a bus").detail["mentions"] == found
    both = find_bench("chair").judge(item, "buses and a wine glass").detail["mentions"]
    assert [name for _, name in both] == ["bus", "wine glass"]
