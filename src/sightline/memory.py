"""Out of memory: distinguish it from other errors, and try again with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Outcome = TypeVar("Outcome")


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
