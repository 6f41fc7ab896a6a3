"""Which samples a process is at work on, made known to the other processes that share its run folder.

A claim is the lock of one byte of an empty file. The system lets go of it when the process ends, however it ends, so a
killed process leaves no claim behind and the others may take over what it had begun.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

if sys.platform != "win32":
    import fcntl

CLAIMS_FILE = ".claims"

_TAKEN = (errno.EACCES, errno.EAGAIN)


class Claims:
    """The claims of this process in one run folder, in a `with` block.

    are_kept: whether the file system has such locks; without, every claim succeeds and nobody else learns of it.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / CLAIMS_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        self.are_kept = sys.platform != "win32"
        if self.are_kept and self.take(("trial", str(os.getpid()))):
            self.give_back(("trial", str(os.getpid())))

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def take(self, key: Sequence[str]) -> bool:
        """Claims a sample; False where a living process has it."""
        if not self.are_kept or sys.platform == "win32":
            return True
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            self.are_kept = False
        return True

    def give_back(self, key: Sequence[str]) -> None:
        """Ends a claim, when the sample's line is on disk."""
        if self.are_kept and sys.platform != "win32":
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _byte(key))


def _byte(key: Sequence[str]) -> int:
    """A sample's byte, by a digest: two of a million samples hardly ever meet, and then the later one waits."""
    text = "\0".join(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
