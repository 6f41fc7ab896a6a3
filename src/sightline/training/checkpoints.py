"""Checkpoints that are whole: each is sealed once its last file is on disk, and without its seal none is used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from sightline.files.json import json_text, write_atomically

SEAL = "sealed.json"
"""Names and sizes of the checkpoint's files, written when all of them are on disk."""

PREFIX = "checkpoint-"


def seal(folder: Path) -> None:
    """Makes a checkpoint count: its files are forced to disk, then listed."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files.pop(SEAL, None)
    for path in files.values():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    write_atomically(folder / SEAL, json_text({name: path.stat().st_size for name, path in files.items()}))


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is sealed, and every file is still as long as it was."""
    try:
        sizes = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by their step."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which it was saved."""
    return int(checkpoint.name[len(PREFIX) :])


def last_whole(folder: Path) -> Path | None:
    """The last checkpoint that is whole; None where there is none."""
    return next((path for path in reversed(checkpoints(folder)) if is_whole(path)), None)


def drop_torn(folder: Path) -> list[Path]:
    """Takes away the checkpoints that are not whole, which a kill left behind, and returns which they were."""
    torn = [path for path in checkpoints(folder) if not is_whole(path)]
    for path in torn:
        shutil.rmtree(path, ignore_errors=True)
    return torn
