"""JSON objects from files of many hands: JSON lines or an array, with any line ends, signs and numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import InputError


class Line(NamedTuple):
    """One object of a file and its number, counted from 1, or why it is none."""

    number: int
    value: dict[str, Any] | None
    error: str | None = None


def json_objects(path: Path) -> list[Line]:
    """The objects of a JSON-lines file or of one JSON array; empty lines are passed over.

    A byte order mark, CRLF, NUL bytes, control characters within strings, lone surrogates and bytes that are no UTF-8
    (read as U+FFFD) are all taken. Raises InputError when the file cannot be read or holds no object at all.
    """
    text = read_text(path)
    lines = _array(text)
    if lines is None:
        lines = [_line(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(_EMPTY)]
    if not lines:
        raise InputError(f"{path} is empty: JSON lines or a JSON array are expected.")
    if all(line.value is None for line in lines):
        raise InputError(f"{path}, line {lines[0].number}: {lines[0].error}; one JSON object a line is expected.")
    return lines


def read_text(path: Path) -> str:
    """A text file whatever its bytes, without a byte order mark; InputError when it cannot be read or is UTF-16."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"The file {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error.strerror}).") from error
    if _is_utf16(content):
        raise InputError(f"The file {path} is UTF-16 text, as some editors save it: save it as UTF-8.")
    try:
        text = content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = content.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def _is_utf16(content: bytes) -> bool:
    """By its byte order mark, or by every other byte of its beginning being NUL."""
    start = content[:200]
    halves = start[0::2], start[1::2]
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    return marked or (len(start) >= 8 and any(half.count(0) > 0.9 * len(half) for half in halves) and any(start))


_EMPTY = " \t\r\n\0"


def _array(text: str) -> list[Line] | None:
    if not text.lstrip(_EMPTY).startswith("["):
        return None
    try:
        entries = _value(text.strip(_EMPTY))
    except (ValueError, RecursionError):
        return None  # JSON lines that begin with a list, or damaged: told line by line
    return [_object(number, entry) for number, entry in enumerate(entries, start=1)]


def _line(number: int, text: str) -> Line:
    try:
        return _object(number, _value(text.strip(_EMPTY)))
    except (ValueError, RecursionError) as error:
        return Line(number, None, f"not valid JSON ({getattr(error, 'msg', 'nested too deeply')})")


def _value(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses to read very long numbers
        return json.loads(text, strict=False, parse_int=_whole_number)


_DECODER = json.JSONDecoder(strict=False)


def _object(number: int, value: Any) -> Line:
    if isinstance(value, dict):
        return Line(number, value)
    return Line(number, None, "not a JSON object")


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) < 1000 else digits


def id_text(value: Any) -> str | None:
    """An id as text; 12.0, as tables write it, is 12. None for what is no id: null, a list, an object."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def response_text(value: Any) -> str:
    """A response as text: text as it is, null as nothing, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
