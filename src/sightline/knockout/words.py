"""What stands at each position of a prompt, and which tokens make up a word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

from sightline.knockout.letters import SPACES, Ends, ends_of

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
    signs, special tokens and Chinese characters are words of their own. The bytes of one character belong together, and
    so do the characters of an emoji sequence (a family, a flag, a skin tone); emoji that stand side by side do not.
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
    for is_alone, run in groupby(ids, key=lambda token: token in alone):
        tokens = [known[token] for token in run]
        if is_alone:
            found += [Piece(text) for _, text in tokens]
            continue
        before, space = "", False
        for (raw, text), ends in zip(tokens, ends_of(tokens), strict=True):
            # A space that is a token of its own is the space in front of the word behind it.
            is_after_space = space and not raw.startswith(SPACES)
            if is_after_space:
                found[-1] = replace(found[-1], text="")
            found.append(Piece(text, is_after_space or ends.is_inside or _goes_on(raw, ends, before, marks)))
            before, space = ends.last, raw in SPACES
    return tuple(found)


def word_positions(pieces: Sequence[tuple[int, Piece]]) -> list[tuple[int, ...]]:
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


def _goes_on(raw: str, ends: Ends, before: str, marks: str) -> bool:
    """before: the letter that the token before ends in."""
    if not marks:
        return False
    if marks == "middle":
        return raw.startswith(CONTINUED)
    if raw.startswith(SPACES) or not ends.first or not before:
        return False
    return _is_inner(ends.first) and _is_inner(before)


def _is_inner(letter: str) -> bool:
    """Whether a letter stands inside words: letters and digits, combining signs, apostrophes; no keycap (a digit)."""
    sign = letter[0]
    if any(part in "\u20e3\ufe0f" for part in letter):
        return False
    if "一" <= sign <= "鿿" or "぀" <= sign <= "ヿ":
        return False
    return unicodedata.category(sign)[0] in "LNM" or sign in "'’"
