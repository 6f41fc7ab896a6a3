"""The lines of one process in a run folder: opened by it alone, without the torn end that a kill left."""

from __future__ import annotations

import os
import sys
from io import FileIO
from pathlib import Path

from sightline.errors import InputError
from sightline.files.json import sync_folder

if sys.platform != "win32":
    import fcntl


def open_lines(path: Path) -> FileIO:
    """Opens a process's own lines for appending, alone; a torn last line is cut off."""
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): give another folder.") from error
    try:
        _lock(file, path)
        file.seek(_end_of_lines(file))
        file.truncate()
        sync_folder(path.parent)
    except BaseException:
        file.close()
        raise
    return file


def _end_of_lines(file: FileIO, step: int = 2**16) -> int:
    """Where the last whole line ends, looked for from the end on."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - step)
        file.seek(start)
        found = file.read(place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0


def _lock(file: FileIO, path: Path) -> None:
    """Refuses a second writer. The system holds the lock for the process, so a dead process leaves none behind."""
    if sys.platform == "win32":
        return  # two processes in one folder cannot be known from each other there
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{path.parent} is being written by another process: wait until it ends, or give another folder."
        ) from error
    except OSError:
        return  # a file system without locks
