"""What needs no model is done ahead: while it works on a batch, another thread reads and encodes the next.

One batch is ready at most, and nothing of it is recorded: a run that ends, however it ends, has lost nothing. What goes
wrong ahead is done again when the batch is due, so that an error comes from the thread that runs the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sightline.runs.batches import Attempt, Entry, Results

Made = TypeVar("Made")
Tag = TypeVar("Tag")


@dataclass(frozen=True)
class TwoSteps(Generic[Entry, Made]):
    """An attempt that begins without the model.

    prepare  reads and encodes a batch; runs in another thread, so it neither runs the model nor draws at random
    work     the results, of a batch and what was prepared of it
    """

    prepare: Callable[[Sequence[Entry]], Made]
    work: Callable[[Sequence[Entry], Made], Results]

    def __call__(self, batch: Sequence[Entry]) -> Results:
        """Both at once."""
        return self.work(batch, self.prepare(batch))


@dataclass
class Due(Generic[Tag, Entry]):
    """A batch whose turn comes next.

    tag    what the caller knows it by
    made   what another thread prepares of it, if it does
    """

    tag: Tag
    batch: list[Entry]
    whole: Attempt[Entry]
    made: Future[Any] | None = None

    def attempt(self, batch: Sequence[Entry]) -> Results:
        """The results of this batch, or of a part of it."""
        if self.made is None or batch is not self.batch or not isinstance(self.whole, TwoSteps):
            return self.whole(batch)
        try:
            made = self.made.result()
        except Exception:
            return self.whole(batch)
        return self.whole.work(batch, made)


@contextmanager
def prepared_ahead(dues: Iterable[Due[Tag, Entry]]) -> Iterator[Iterator[Due[Tag, Entry]]]:
    """Yields the batches in their turn, of each the next one begun by another thread."""
    with ThreadPoolExecutor(1, "sightline-ahead") as pool:
        try:
            yield _ahead(iter(dues), pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ahead(dues: Iterator[Due[Tag, Entry]], pool: ThreadPoolExecutor) -> Iterator[Due[Tag, Entry]]:
    due = next(dues, None)
    while due is not None:
        following = next(dues, None)
        if following is not None and isinstance(following.whole, TwoSteps):
            following.made = pool.submit(following.whole.prepare, following.batch)
        yield due
        due = following
