"""Out of memory is told from other errors, and tried again with less."""

from __future__ import annotations

import pytest
import torch

from sightline.memory import is_out_of_memory, with_less_memory

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("not enough memory: you tried to allocate"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_it_shrinks_until_it_fits(error: Exception) -> None:
    block = [8]

    def attempt() -> str:
        if block[0] > 2:
            raise error
        return "done"

    def shrink() -> bool:
        block[0] //= 2
        return block[0] > 0

    assert with_less_memory(attempt, shrink) == "done"
    assert block == [2]


def test_it_gives_up_when_nothing_is_left_to_shrink() -> None:
    def attempt() -> None:
        raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        with_less_memory(attempt, lambda: False)


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**48, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_other_errors_pass() -> None:
    def attempt() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        with_less_memory(attempt, lambda: True)
