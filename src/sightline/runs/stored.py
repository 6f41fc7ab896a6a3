"""Results that stay on disk until they are read, so that a run of any length fits into memory and opens in seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import InputError, RunError
from sightline.files.json import parse_object

SHORT = 1500
"""Bytes of a line up to which its result is kept in memory: an answer is, a reading of every layer is not."""

_STRING = rb'"(?:[^"\\\x00-\x1f]|\\.)*"'
_HEAD = re.compile(rb'\{(?:"(?:id|model|method)": ' + _STRING + rb', )+"result": (?=\{)')
_TAIL = re.compile(rb', "seconds": [0-9][0-9.eE+-]*\}\n\Z')
_TAIL_LENGTH = 64
"""Bytes within which the end of a line is looked for."""


def line_outline(line: bytes) -> dict[str, Any] | None:
    """The fields of a run's line but for its result, which is not read: a tenth of the time that the whole takes.

    None where it may be a damaged line: it does not begin and end as lines of a run do, a list in it is
    cut short, or a second line begins in it. What is damaged beyond that shows when it is read.
    """
    head, tail = _HEAD.match(line), _TAIL.search(line, max(0, len(line) - _TAIL_LENGTH))
    if head is None or tail is None or line.find(b'{"id": ', 1) > 0 or b"\0" in line:
        return None
    if line.count(b"[") != line.count(b"]"):
        return None
    return parse_object(head.group() + b"{}" + tail.group())


class DamagedLine(InputError):
    """A line whose result cannot be read."""


class StoredResult(Mapping[str, Any]):
    """The result in one line of a run's file, read anew whenever a field is looked at."""

    __slots__ = ("_length", "_missing", "_path", "_start")
    _latest: tuple[StoredResult, dict[str, Any]] | None = None

    def __init__(self, path: Path, start: int, length: int) -> None:
        self._path, self._start, self._length = path, start, length
        self._missing: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        if name in self._missing:
            raise KeyError(name)
        return self._read(name)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"StoredResult({self._path.name!r}, {self._start})"

    def _read(self, wanted: str | None = None) -> dict[str, Any]:
        """The whole result; nothing where the line does not name the one field that is wanted, which is remembered."""
        latest = StoredResult._latest  # fields of one result are looked at one after the other
        if latest is not None and latest[0] is self:
            return latest[1]
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._start)
                line = file.read(self._length)
        except OSError as error:
            raise RunError(f"{self._path} cannot be read any more ({error.strerror or error}).") from error
        if wanted is not None and wanted.isidentifier() and _lacks(line, wanted):
            self._missing = (*self._missing, wanted)
            return {}
        found = (parse_object(line) or {}).get("result")
        if not isinstance(found, dict):
            raise DamagedLine(
                f"{self._path} was changed while it was read, or its line at byte {self._start} is damaged: delete "
                "that line and give the same command again."
            )
        StoredResult._latest = self, found
        return found


def _lacks(line: bytes, name: str) -> bool:
    """Whether a whole line surely has no such field."""
    return f'"{name}"'.encode() not in line and b"\\u" not in line and line.endswith(b"}\n")
