"""Several processes of one run: which this one is, and its share of a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shard(items: Sequence[Item], rank: int, world: int) -> list[Item]:
    """The share of one process of `world`: every world-th item, so that the shares of any list are of one size."""
    return list(items[rank::world])


def launched_as() -> tuple[int, int]:
    """(rank, world size) as `accelerate launch` and torchrun tell each process; (0, 1) for a process on its own."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
