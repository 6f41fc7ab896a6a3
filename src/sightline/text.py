"""Numbers, ranges and near misses in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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


def printable(text: str) -> str:
    """Text that a terminal shows and never obeys: control characters and halves of characters as their escapes."""
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode("ascii") for sign in text
    )
