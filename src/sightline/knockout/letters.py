"""Which tokens begin inside what reads as one letter: bytes of a character, and parts of an emoji sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import regex

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CLUSTER = regex.compile(r"\X")
"""An extended grapheme cluster of Unicode (UAX 29): a letter with its marks, a family of emoji, a flag."""

SPACES = ("Ġ", "▁", " ")
"""How tokenizers mark that a space stands before a token."""


class Ends(NamedTuple):
    """The letters that a token begins and ends in, "" for one that stands for nothing; is_inside: begins within one."""

    first: str
    last: str
    is_inside: bool


def ends_of(tokens: Sequence[tuple[str, str]]) -> list[Ends]:
    """Of tokens that follow on each other, each as the vocabulary writes it and as it reads."""
    parts = [bytes_of(raw, text) for raw, text in tokens]
    letters: list[str] = []
    edges = set()
    for cluster in _CLUSTER.findall(b"".join(parts).decode("utf-8", "surrogateescape")):
        edges.add(len(letters))
        letters += [cluster] * len(cluster.encode("utf-8", "surrogateescape"))
    found, place = [], 0
    for part in parts:
        stop = place + len(part)
        found.append(Ends(letters[place], letters[stop - 1], place not in edges) if part else Ends("", "", False))
        place = stop
    return found


def bytes_of(raw: str, text: str) -> bytes:
    """What a token stands for; of one that is no whole character, by how its vocabulary writes bytes."""
    if (byte := _BYTE.fullmatch(raw)) is not None:
        return bytes([int(byte[1], 16)])
    if "\ufffd" in text and all(letter in _bytes_by_letter() for letter in raw):
        return bytes(_bytes_by_letter()[letter] for letter in raw)
    return b" " * raw.startswith(SPACES) + text.encode("utf-8", "replace")


@cache
def _bytes_by_letter() -> dict[str, int]:
    """Byte-level vocabularies write printable bytes as themselves and the others as letters from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
