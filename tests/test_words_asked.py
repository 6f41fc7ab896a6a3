"""A word that a user asks about: one string is one word, and what the tokenizer does not know is refused everywhere."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from sightline.methods.projectaway import ProjectAway
from sightline.methods.yes_bias import _tokens
from sightline.models.word_tokens import word_list, word_tokens

SAMPLE = sl.Sample(prompt="is there a red circle in the image ?", image=Image.new("RGB", (48, 48), (200, 30, 30)))
UNKNOWN = ("zebra", "", "  ")


@cache
def tiny() -> Any:
    return sl.load("tiny-llava")


def test_one_string_is_one_word_wherever_words_are_taken() -> None:
    inputs = tiny().encode(SAMPLE)
    assert sl.image_lens(tiny(), inputs, "circle").confidence.shape[-1] == 1
    assert sl.image_lens(tiny(), inputs, 7).confidence.shape[-1] == 1
    assert ProjectAway(words="circle").words == ("circle",)
    assert word_list(["red", "circle"]) == ("red", "circle")
    assert len(word_tokens(tiny(), "circle")) == 1


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_word_that_the_tokenizer_does_not_know_is_refused_wherever_words_are_taken(word: str) -> None:
    inputs = tiny().encode(SAMPLE)
    sentence = "does not know the word 'zebra'" if word == "zebra" else "is no word"
    for ask in (
        lambda: sl.image_lens(tiny(), inputs, ["circle", word]),
        lambda: sl.impact(tiny(), SAMPLE, target=word),
        lambda: sl.impact(tiny(), SAMPLE, mode="lens", target=word),
        lambda: ProjectAway(words=("circle", word)).on(tiny()).__enter__(),
    ):
        with pytest.raises(InputError, match=sentence):
            ask()


def test_a_token_that_is_not_in_the_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="Token 99999 in image_lens is out of range: the model has tokens 0 to"):
        sl.image_lens(tiny(), tiny().encode(SAMPLE), [99_999])


def test_yes_and_no_that_are_unknown_have_no_tokens() -> None:
    class Deaf:
        unk_token_id = 3

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [3]}

    with pytest.raises(InputError, match="no single token for 'yes'"):
        _tokens(SimpleNamespace(tokenizer=Deaf()), "yes")
