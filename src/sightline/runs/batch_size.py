"""How many samples to begin with in one pass, where `--batch-size auto` leaves it to us."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.models.vlm import VLM

MOST = {"cpu": 16}
MOST_ELSEWHERE = 64
"""Larger batches gain nothing: on a processor nothing above a few, on a GPU little once it is busy."""

USED_SHARE = 0.5
"""Of the memory that is free; the rest is for the methods' second passes and what the estimate leaves out. Too much is
mended by halving, but on a processor the system kills a process that takes too much."""


def first_batch_size(vlm: VLM, longest: Iterable[Callable[[], Sample]], new_tokens: int) -> int:
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


def _positions(vlm: VLM, make: Callable[[], Sample]) -> int | None:
    try:
        return int(vlm.encode(make())["input_ids"].shape[1])
    except Exception:
        return None  # its own turn will tell what is wrong with it


def _bytes_a_position(vlm: VLM) -> float:
    """Cache of all layers, twice for the methods with a second pass; a layer's widest tensors in float32."""
    anatomy = vlm.anatomy
    width = int(next(vlm.model.parameters()).element_size())
    cache = 2 * len(anatomy.layers) * anatomy.num_key_value_heads * anatomy.head_dim * width
    inner = getattr(anatomy.text_config, "intermediate_size", None)
    widest = inner if isinstance(inner, int) else 4 * anatomy.hidden_size
    return 2.0 * cache + 4.0 * (3 * widest + 8 * anatomy.hidden_size)


def free_bytes(kind: str) -> float:
    """Free memory of the device, this process's share of it where several run on one machine."""
    import torch

    if kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free = 2**30  # a system that does not tell
    return float(free) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
