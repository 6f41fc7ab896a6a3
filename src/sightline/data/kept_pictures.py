"""The pictures that were decoded last: methods, query sets and views of one sample ask for the same one in turn."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

KEPT_BYTES = 64 * 2**20
"""Of decoded RGB pictures: one of the largest, or seventy of 640 x 480."""


class KeptPictures:
    """Decoded pictures by their source, the latest of them, for all threads of a process."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._held = 0
        self._found: OrderedDict[Any, tuple[Any, Image.Image]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, source: Any) -> Image.Image | None:
        """A copy of the picture of a source, None where it is not kept."""
        key = _key(source)
        with self._lock:
            if key is None or key not in self._found:
                return None
            self._found.move_to_end(key)
            picture = self._found[key][1]
        return picture.copy()

    def put(self, source: Any, picture: Image.Image) -> None:
        """Keeps a copy of a source's picture in place of the oldest ones."""
        key = _key(source)
        if key is None or _bytes(picture) > self._most:
            return
        with self._lock:
            if key in self._found:
                return
            # What has no name of its own is told by where it lies in memory, and has to stay there.
            self._found[key] = (source, picture.copy())
            self._held += _bytes(picture)
            while self._held > self._most:
                _, (_, oldest) = self._found.popitem(last=False)
                self._held -= _bytes(oldest)


def _bytes(picture: Image.Image) -> int:
    return picture.width * picture.height * 3


def _key(source: Any) -> Any:
    """A file with the time it was written, else the object itself; None for a file that is not there."""
    if not isinstance(source, str | Path):
        return id(source)
    try:
        found = Path(source).stat()
    except (OSError, ValueError):
        return None
    return os.fspath(source), found.st_mtime_ns, found.st_size, found.st_ino
