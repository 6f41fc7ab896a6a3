"""Samples in batches: a bad one fails alone, and where memory is short batches and blocks of attention shrink."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sightline.errors import SightlineError
from sightline.memory import SMALLEST_BLOCK, block_bytes, is_out_of_memory, limit_block_bytes, with_less_memory


class Named(Protocol):
    """What a batch is made of: a sample, or a benchmark's item."""

    @property
    def id(self) -> str:
        """Its name in the run folder."""


Entry = TypeVar("Entry", bound=Named)
Results = list[dict[str, Any]]
Attempt = Callable[[Sequence[Entry]], Results]
"""Takes a batch, returns a result a sample."""


@dataclass(frozen=True)
class Outcome:
    """How one sample ended. seconds: wall time; a batch's is shared out evenly."""

    id: str
    seconds: float
    result: dict[str, Any] | None = None
    error: Exception | None = None

    def fields(self) -> dict[str, Any]:
        """As `Run.record` takes it."""
        message = None if self.error is None else _sentence(self.error)
        return {"result": self.result, "error": message, "seconds": self.seconds}


class Batches:
    """Runs samples on one model, in ever smaller batches and blocks of attention where memory is short.

    size: samples in one pass; halved, for good, each time that memory does not suffice for so many. is_of_run: knows
    the errors that no sample is to blame for; these are raised.
    """

    def __init__(self, size: int, is_of_run: Callable[[Exception], bool] = lambda error: False) -> None:
        self.size, self._is_of_run = size, is_of_run
        self._block_bytes = block_bytes()

    def outcomes(self, batch: Sequence[Entry], attempt: Attempt[Entry]) -> Iterator[Outcome]:
        """The outcome of each sample, in order, as soon as it is there; in parts where fewer fit by now."""
        start = 0
        while start < len(batch):
            part = batch if len(batch) <= self.size else batch[start : start + self.size]
            yield from self._batch(part, attempt)
            start += len(part)

    def _batch(self, batch: Sequence[Entry], attempt: Attempt[Entry]) -> Iterator[Outcome]:
        begun = time.monotonic()
        try:
            results = self._within_memory(lambda: attempt(batch), is_last_resort=len(batch) == 1)
        except Exception as error:
            if self._is_of_run(error):
                raise
            # A traceback keeps the failed pass's tensors; a single sample's is kept for --debug.
            failure = error if len(batch) == 1 else error.with_traceback(None)
        else:
            each = (time.monotonic() - begun) / len(batch)
            yield from (Outcome(sample.id, each, result) for sample, result in zip(batch, results, strict=True))
            return
        if len(batch) == 1:
            yield Outcome(batch[0].id, time.monotonic() - begun, error=failure)
            return
        # One bad sample, or too little memory for all together: each half on its own.
        half = len(batch) // 2
        if is_out_of_memory(failure):
            self.size = min(self.size, half)
            free_memory()
        ending: Exception | None = None
        for part in (batch[:half], batch[half:]):  # what the other half has is recorded before the run ends
            try:
                yield from self._batch(part, attempt)
            except Exception as error:
                if not self._is_of_run(error):
                    raise
                ending = ending or error
        if ending is not None:
            raise ending

    def _within_memory(self, attempt: Callable[[], Results], is_last_resort: bool) -> Results:
        def attempt_in_blocks() -> Results:
            with limit_block_bytes(self._block_bytes):
                return attempt()

        return with_less_memory(attempt_in_blocks, self._shrink if is_last_resort else lambda: False)

    def _shrink(self) -> bool:
        free_memory()
        if self._block_bytes // 2 < SMALLEST_BLOCK:
            return False
        self._block_bytes //= 2
        return True


def free_memory() -> None:
    """Lets go of what a failed pass, or a model that is done with, still holds."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SightlineError) else f"{type(error).__name__}: {text}"
