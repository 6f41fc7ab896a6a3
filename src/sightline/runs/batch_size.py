"""How many samples to begin with in one pass, where `--batch-size auto` leaves it to us."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.data.sample import Sample

MOST = {"cpu": 16}
MOST_ELSEWHERE = 64
"""Larger batches gain nothing: on a processor nothing above a few, on a GPU little once it is busy."""

CONTROL_GROUP = Path("/sys/fs/cgroup")

USED_SHARE = 0.5
"""Of the memory that is free; the rest is for the methods' second passes and what the estimate leaves out. Too much is
mended by halving, but on a processor the system kills a process that takes too much."""


def first_batch_size(vlm: Any, longest: Iterable[Callable[[], Sample]], new_tokens: int) -> int:
    """A power of two that fits the free memory, by an estimate from the first of the samples that can be encoded.

    longest: the longest samples, each made when it is called; where none can be encoded the size is 1.
    """
    positions = next((count for make in longest if (count := _positions(vlm, make))), None)
    if positions is None:
        return 1
    kind = vlm.device.type
    fitting = USED_SHARE * free_bytes(kind) / ((positions + new_tokens) * _bytes_a_position(vlm))
    most = MOST.get(kind, MOST_ELSEWHERE)
    return int(min(most, 2 ** math.floor(math.log2(max(fitting, 1)))))


def _positions(vlm: Any, make: Callable[[], Sample]) -> int | None:
    try:
        return int(vlm.encode(make())["input_ids"].shape[1])
    except Exception:
        return None  # its own turn will tell what is wrong with it


def _bytes_a_position(vlm: Any) -> float:
    """Cache of all layers, twice for the methods with a second pass; a layer's widest tensors in float32."""
    anatomy = vlm.anatomy
    width = int(next(vlm.model.parameters()).element_size())
    cache = 2 * len(anatomy.layers) * anatomy.num_key_value_heads * anatomy.head_dim * width
    inner = getattr(anatomy.text_config, "intermediate_size", None)
    widest = inner if isinstance(inner, int) else 4 * anatomy.hidden_size
    return float(2.0 * cache + 4.0 * (3 * widest + 8 * anatomy.hidden_size))


def free_bytes(kind: str) -> float:
    """Free memory of the device, this process's share of it where several run on one machine."""
    import torch

    if kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    free = min(_free_of_machine(), _free_of_container())
    return free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _free_of_machine() -> float:
    """What the system could give; what it keeps of files counts as free."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(ValueError, OSError, AttributeError):
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return 2.0**30  # a system that does not tell


def _free_of_container() -> float:
    """What the control group leaves, beyond which the system kills; endless where there is none."""
    with suppress(OSError, ValueError):
        most, used = (
            int((CONTROL_GROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current")
        )
        return float(max(0, most - used))
    return math.inf
