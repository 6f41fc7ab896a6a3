"""How much memory is taken at once; and out of memory: distinguish it from other errors, and try again with less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from sightline.errors import InputError

Outcome = TypeVar("Outcome")

_BLOCK_BYTES: ContextVar[int] = ContextVar("sightline_block_bytes", default=64 * 2**20)
SMALLEST_BLOCK = 2**20


def block_bytes() -> int:
    """Bytes that one block of attention weights and its float32 keys may take together."""
    return _BLOCK_BYTES.get()


@contextmanager
def limit_block_bytes(limit: int) -> Iterator[None]:
    """Inside, blocks take at most `limit` bytes (at least one row of one head is always computed)."""
    if limit < 1:
        raise InputError(f"A block of {limit} bytes can hold nothing; give a positive number of bytes.")
    token = _BLOCK_BYTES.set(limit)
    try:
        yield
    finally:
        _BLOCK_BYTES.reset(token)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the machine ran out of memory."""
    phrases = ("not enough memory", "DefaultCPUAllocator", "out of memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in phrases))
    )


def with_less_memory(attempt: Callable[[], Outcome], shrink: Callable[[], bool]) -> Outcome:
    """Calls `attempt`, and after each out-of-memory error again, for as long as `shrink` makes its need smaller.

    shrink returns False when nothing is left to make smaller; then the error is raised. It is called when the failed
    attempt's frames, and with them its tensors, are gone.
    """
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            last = error.with_traceback(None)
        if not shrink():
            raise last
