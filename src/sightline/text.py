"""Numbers, ranges and near misses in words; FIELD=VALUE pairs as fields."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from sightline.errors import InputError


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def mean_std(value: float | None, deviation: float | None, digits: int = 2) -> str:
    """Mean and standard deviation for a table."""
    if value is None or deviation is None:
        return number(value, digits)
    return f"{value:.{digits}f} ± {deviation:.{digits}f}"


def ranges(indices: Sequence[int]) -> str:
    """Indices in words: [0, 1, 2, 5] as "0 to 2, 5"."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts)


def nearest(name: str, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """The known names most like a name that is none of them, best first; [] where none is near."""
    return difflib.get_close_matches(name.lower(), list(known), count, likeness)


def shortened(name: str, length: int = 120) -> str:
    """A long name with its middle left out, for a sentence."""
    return name if len(name) <= length else f"{name[: length // 2]}...{name[-(length // 2 - 3) :]}"


def first_sentence(error: BaseException, length: int = 200) -> str:
    """The first sentence of another library's error, without the names that Python has for its kinds."""
    text = " ".join(_KINDS.sub("", str(error)).split()) or type(error).__name__
    return shortened(_SENTENCES.split(text)[0].rstrip("."), length)


_KINDS = re.compile(r"\b[A-Z]\w*(?:Error|Exception): ")
_SENTENCES = re.compile(r"(?<=[.!?])\s")


def printable(text: str) -> str:
    """Text that a terminal shows and never obeys: control characters and halves of characters as their escapes."""
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def parse_fields(entries: Iterable[str], option: str) -> dict[str, Any]:
    """The mapping that FIELD=VALUE entries stand for; values are JSON, and what is no JSON is a word.

    Raises:
        InputError: for an entry without "=", and a field that is given twice.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"{shortened(entry)!r} is no FIELD=VALUE pair: write for example {option}.")
        if name in found:
            raise InputError(f"The field {name} is given twice: give it once.")
        found[name] = _value(text.strip())
    return found


_WORDS = {"true": True, "false": False, "none": None, "null": None}


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value
