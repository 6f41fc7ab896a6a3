"""Fields that are numbers, or lists of numbers, are refused in a sentence where something else is given."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from typing import Any

from sightline.errors import InputError

KINDS: dict[Any, str] = {float: "a number", int: "a whole number"}

_NAMES = {"float": float, "int": int}
_HINT = re.compile(r"(tuple\[)?(int|float)(?:, \.\.\.\])?( \| None)?")


def check_numbers(method: Any) -> None:
    """InputError for a number's field that holds none, or one without end."""
    own: Any = type(method)
    for field, is_list, is_optional, kind in _numbers_of(own):
        value = getattr(method, field)
        # What is no list at all may be what a method reads its list from.
        is_source = is_list and not (value is None or isinstance(value, str) or _is_number(value))
        if (value is None and is_optional) or (is_source and not isinstance(value, list | tuple)):
            continue
        if any(_is_wrong(each, kind) for each in value) if is_source else is_list or _is_wrong(value, kind):
            several = f"a list, each {KINDS[kind]}" if is_list else KINDS[kind]
            raise InputError(f"{field} is {value!r} in {method.name}: give {several}.")


def _is_wrong(value: Any, kind: Any) -> bool:
    if kind is int:
        return not hasattr(value, "__index__")
    return not _is_number(value) or not math.isfinite(value)


def _is_number(value: Any) -> bool:
    return not isinstance(value, str) and (hasattr(value, "__float__") or hasattr(value, "__index__"))


@cache
def _numbers_of(kind: type[Any]) -> tuple[tuple[str, bool, bool, Any], ...]:
    """The fields that hold numbers alone: their names, whether each is a list, whether it may be None, and of what."""
    found = []
    for field in dataclasses.fields(kind):
        # Hints stay texts: some name what is there for type checkers alone.
        hint = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        match = _HINT.fullmatch(hint)
        if match is not None and not field.metadata.get("artifact"):
            found.append((field.name, match[1] is not None, match[3] is not None, _NAMES[match[2]]))
    return tuple(found)
