"""What stands at each position of a prompt, and which tokens make up a word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

SPACES = ("Ġ", "▁", " ")
"""How tokenizers mark that a space stands before a token."""

CONTINUED = "##"
"""How WordPiece marks that none does."""


@dataclass(frozen=True)
class Piece:
    """One token. text: as it reads, without a space in front; joined: it goes on the word of the token before it."""

    text: str
    joined: bool = False


def pieces_of(ids: Sequence[int], tokenizer: Any = None) -> tuple[Piece, ...]:
    """The token at each position. Without a tokenizer a token reads "#17" and is a word of its own.

    Tokens go on a word where the tokenizer says so: it marks words by a space in front ("Ġ", "▁") and this token has
    none, or it marks the tokens in the middle of a word ("##"). Digits and letters go on digits and letters; other
    signs, special tokens and Chinese characters are words of their own. The bytes of one character, as an emoji that
    a byte-level tokenizer has no token for, always belong together.
    """
    if tokenizer is None:
        return tuple(Piece(f"#{token}") for token in ids)
    known: dict[int, tuple[str, str]] = {}
    for token in ids:
        if token not in known:
            raw = tokenizer.convert_ids_to_tokens(int(token))
            known[token] = (str(raw if raw is not None else f"#{token}"), _read(tokenizer, int(token)))
    marks = _marks(tokenizer)
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    added = set(getattr(tokenizer, "added_tokens_decoder", None) or ())
    alone = special | added
    found: list[Piece] = []
    for place, token in enumerate(ids):
        raw, text = known[token]
        before = ids[place - 1] if place else None
        is_free = token in alone or before is None or before in alone
        joined = not is_free and before is not None and _goes_on(raw, text, *known[before], marks)
        found.append(Piece(text, joined))
    return tuple(found)


def words_of(pieces: Sequence[tuple[int, Piece]]) -> list[tuple[int, ...]]:
    """The positions of each word; a word ends where positions do not follow on each other."""
    words: list[list[int]] = []
    for place, piece in pieces:
        if piece.joined and words and words[-1][-1] == place - 1:
            words[-1].append(place)
        else:
            words.append([place])
    return [tuple(word) for word in words]


def _read(tokenizer: Any, token: int) -> str:
    text = str(tokenizer.decode([token], skip_special_tokens=False))
    return text.strip(" ") or text


def _marks(tokenizer: Any) -> str:
    """ "space", "middle" or "" by how the vocabulary marks where words begin."""
    try:
        return _KNOWN_MARKS[tokenizer]
    except (KeyError, TypeError):
        found = _find_marks(tokenizer)
    with suppress(TypeError):  # what is no key is looked at each time
        _KNOWN_MARKS[tokenizer] = found
    return found


_KNOWN_MARKS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""By tokenizer: a vocabulary of 262,000 words takes a second to copy."""


def _find_marks(tokenizer: Any) -> str:
    try:
        vocabulary = tokenizer.get_vocab()
    except (AttributeError, NotImplementedError):
        return ""
    spaced = middle = 0
    for word in vocabulary:
        spaced += len(word) > 1 and word.startswith(SPACES)
        middle += len(word) > 2 and word.startswith(CONTINUED)
        if max(spaced, middle) > 50:
            break
    if not spaced and not middle:
        return ""
    return "space" if spaced >= middle else "middle"


def _goes_on(raw: str, text: str, raw_before: str, before: str, marks: str) -> bool:
    if not marks:
        return False
    if "�" in text and "�" in before and not raw.startswith(SPACES):
        return True
    if marks == "middle":
        return raw.startswith(CONTINUED)
    if raw.startswith(SPACES) or not text or not before:
        return False
    return _is_inner(text[0]) and _is_inner(before[-1])


def _is_inner(sign: str) -> bool:
    """Whether a sign stands inside words: letters and digits, combining signs, apostrophes."""
    if "一" <= sign <= "鿿" or "぀" <= sign <= "ヿ":
        return False
    return unicodedata.category(sign)[0] in "LNM" or sign in "'’"
