"""Results that stay on disk until they are read, so that a run of any length fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.files.json import parse_object

SHORT = 1500
"""Bytes of a line up to which its result is kept in memory: an answer is, a reading of every layer is not."""


class StoredResult(Mapping[str, Any]):
    """The result in one line of a run's file, read anew whenever a field is looked at. names: of its fields."""

    __slots__ = ("_length", "_names", "_path", "_start")
    _latest: tuple[StoredResult, dict[str, Any]] | None = None

    def __init__(self, path: Path, start: int, length: int, names: tuple[str, ...]) -> None:
        self._path, self._start, self._length, self._names = path, start, length, names

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"StoredResult({self._path.name!r}, {self._start})"

    def _read(self) -> dict[str, Any]:
        latest = StoredResult._latest  # fields of one result are looked at one after the other
        if latest is not None and latest[0] is self:
            return latest[1]
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                found = (parse_object(file.read(self._length)) or {}).get("result")
        except OSError as error:
            raise RunError(f"{self._path} cannot be read any more ({error.strerror or error}).") from error
        if not isinstance(found, dict):
            raise RunError(f"{self._path} was changed while it was read: give the command again.")
        StoredResult._latest = self, found
        return found
