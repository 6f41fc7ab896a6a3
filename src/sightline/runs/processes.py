"""Several processes of one run: which this one is, its share of a list, and a folder for one alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sightline.errors import InputError

if sys.platform != "win32":
    import fcntl

Item = TypeVar("Item")


def shard(items: Sequence[Item], rank: int, world: int) -> list[Item]:
    """The share of one process of `world`: every world-th item, so that the shares of any list are of one size."""
    return list(items[rank::world])


def launched_as() -> tuple[int, int]:
    """(rank, world size) as `accelerate launch` and torchrun give each process; (0, 1) for a process on its own."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def held_alone(folder: Path, verb: str) -> Iterator[None]:
    """Inside, no other process holds the folder; InputError where one does. A dead process holds nothing."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InputError(
            f"{folder} is being {verb} by another process: wait until it ends, or give another folder."
        ) from error
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(handle)
