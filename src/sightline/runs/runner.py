"""The one loop of every command that runs a model on many entries: entries, batches by length, records.

    runner = Runner(run)
    runner.work(entries, [Condition("tiny-llava", "none", attempt)], size=8)

A finished entry is recorded before the next batch begins. A bad entry is recorded with its error and the others go on;
what no entry is to blame for (a full disk, a folder that is gone, a lost device) ends the run and is nobody's record.
Of an attempt in `TwoSteps` the first is done ahead, one batch, by another thread.
Several processes share the entries; what a dead one had not finished, the others do.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic

from sightline.errors import OthersAtWork, RunError
from sightline.files.json import write_error
from sightline.memory import is_out_of_memory
from sightline.runs.ahead import Due, prepared_ahead
from sightline.runs.batches import Attempt, Batches, Entry, Outcome
from sightline.runs.claims import Claims
from sightline.runs.processes import shard
from sightline.runs.progress import LOGGER, OnProgress, Progress
from sightline.runs.records import Key, Records

TURN = 4
"""Batches of one condition before the next has its turn."""

WAIT = 0.2
"""Seconds between two looks at what other processes have finished."""

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


@dataclass(frozen=True)
class Condition(Generic[Entry]):
    """What entries are run under: one model with one method. title: of its part in `Progress`."""

    model: str
    method: str
    attempt: Attempt[Entry] = field(repr=False)
    title: str = ""


@dataclass(frozen=True)
class Arrangement(Generic[Entry]):
    """How entries are put together.

    size      entries in one batch, at first
    length    the longest go first, so that memory that does not suffice shows at once; None: they keep their order
    kind      entries of different kinds never share a batch
    """

    size: int = 1
    length: Callable[[Entry], Any] | None = None
    kind: Callable[[Entry], Hashable] = lambda entry: None

    def order(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries in their turn."""
        return list(entries) if self.length is None else sorted(entries, key=self.length, reverse=True)

    def turns(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Ordered entries of one kind each, a few batches long."""
        kinds: dict[Hashable, list[Entry]] = {}
        for entry in entries:
            kinds.setdefault(self.kind(entry), []).append(entry)
        for alike in kinds.values():
            for start in range(0, len(alike), TURN * self.size):
                yield alike[start : start + TURN * self.size]


class Runner:
    """Works on one run, in a `with` block.

    world        processes that share the run
    on_progress  is called as the run goes on
    raises       knows the errors of an entry that end the run, as where there is but one entry
    """

    def __init__(
        self,
        run: Records,
        *,
        world: int = 1,
        on_progress: OnProgress | None = None,
        raises: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self.run, self.on_progress, self._world, self._raises = run, on_progress, world, raises
        self._settled: set[Key] = set()
        self._claims: Claims | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Runner:
        if self.run.folder is not None:
            self._claims = self._stack.enter_context(Claims(self.run.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take_up(self, model: str, method: str) -> None:
        """Counts as done what the run has from before."""
        self._settled |= {(model, method, name) for name in self.run.done_ids(model, method)}

    def open(self, entries: Sequence[Entry], model: str, method: str) -> list[Entry]:
        """The entries without a record, in their order."""
        return [entry for entry in entries if (model, method, entry.id) not in self._settled]

    def work(
        self,
        entries: Sequence[Entry],
        conditions: Sequence[Condition[Entry]],
        arrangement: Arrangement[Entry] | None = None,
        on_outcome: Callable[[Condition[Entry], Outcome], str] | None = None,
    ) -> None:
        """Does what has no record yet; the conditions take turns, a few batches each.

        on_outcome: called after each record; what it returns goes with the progress. Returns when every entry has its
        record, by whichever process. Raises RunError where a file system without locks does not say who does what.
        """
        try:
            self._work(entries, conditions, Arrangement[Entry]() if arrangement is None else arrangement, on_outcome)
        except OSError as error:
            if self.run.folder is None or not self._is_of_run(error):
                raise
            raise write_error(self.run.folder, error, f"{len(self.run.records)} entries are kept there") from error

    def _work(
        self,
        entries: Sequence[Entry],
        conditions: Sequence[Condition[Entry]],
        laid: Arrangement[Entry],
        on_outcome: Callable[[Condition[Entry], Outcome], str] | None,
    ) -> None:
        for condition in conditions:
            self.take_up(condition.model, condition.method)
        shown = [ConditionPart(condition, entries, self) for condition in conditions]
        order = laid.order([entry for entry in entries if any(self._is_open(entry, each) for each in conditions)])
        # First this process's share, then, from their far end, those of the others, who may be slower or dead.
        own = shard(order, self.run.rank % self._world, self._world)
        mine = {entry.id for entry in own}
        others = [entry for entry in reversed(order) if entry.id not in mine]
        batches = Batches(laid.size, self._is_of_run)
        while any(self._is_open(entry, condition) for condition in conditions for entry in order):
            is_at_work = False
            turns = (*laid.turns(own), *laid.turns(others if self._has_claims else []))
            with prepared_ahead(self._dues(turns, conditions, shown, batches)) as dues:
                for due in dues:
                    condition, part = due.tag
                    for outcome in batches.outcomes(due.batch, due.attempt):
                        self._settle(condition, outcome)
                        part.advance(1, "" if on_outcome is None else on_outcome(condition, outcome))
                    is_at_work = True
            self._settled |= self.run.refresh()
            if is_at_work:
                sizes = {condition.model: batches.size for condition in conditions}
                self.run.inform(batches=self.run.info.get("batches", {}) | sizes)
            else:
                self._wait()

    def _dues(
        self,
        turns: Sequence[list[Entry]],
        conditions: Sequence[Condition[Entry]],
        shown: Sequence[ConditionPart],
        batches: Batches,
    ) -> Iterator[Due[tuple[Condition[Entry], ConditionPart], Entry]]:
        """The batches in their turn, each claimed when it is taken."""
        for turn in turns:
            for condition, part in zip(conditions, shown, strict=True):
                claimed = self._claimed(turn, condition)
                while batch := list(islice(claimed, batches.size)):
                    yield Due((condition, part), batch, condition.attempt)

    def _wait(self) -> None:
        if not self._has_claims:
            raise OthersAtWork("Other processes are still at work; the last to end has the result.")
        time.sleep(WAIT)

    @property
    def _has_claims(self) -> bool:
        return self._claims is not None and self._claims.are_kept

    def _is_open(self, entry: Entry, condition: Condition[Entry]) -> bool:
        return (condition.model, condition.method, entry.id) not in self._settled

    def _claimed(self, entries: Sequence[Entry], condition: Condition[Entry]) -> Iterator[Entry]:
        """Of the entries, each in its turn, those that no other process has done or is doing."""
        for entry in entries:
            key = (condition.model, condition.method, entry.id)
            if key in self._settled or (self._claims is not None and not self._claims.take(key)):
                continue
            self._settled |= self.run.refresh()  # another process may have written it before it let go
            if key in self._settled:
                self._give_back(key)
                continue
            yield entry

    def _settle(self, condition: Condition[Entry], outcome: Outcome) -> None:
        if outcome.error is not None and self._raises(outcome.error):
            raise outcome.error
        key = (condition.model, condition.method, outcome.id)
        if outcome.error is not None:
            LOGGER.warning("%s failed under %s on %s: %s", outcome.id, condition.method, condition.model, outcome.error)
        self.run.record(outcome.id, model=condition.model, method=condition.method, **outcome.fields())
        self._settled.add(key)
        self._give_back(key)

    def _give_back(self, key: Key) -> None:
        if self._claims is not None:
            self._claims.give_back(key)

    def _is_of_run(self, error: Exception) -> bool:
        return is_of_run(error, self.run.folder)


class ConditionPart:
    """One condition's part of a run, as it goes on."""

    def __init__(self, condition: Condition[Any], entries: Sequence[Any], runner: Runner) -> None:
        self._title, self._total = condition.title or condition.method, len(entries)
        self._done = self._total - len(runner.open(entries, condition.model, condition.method))
        self._on_progress = runner.on_progress
        LOGGER.info("%s on %s: %d of %d are done", self._title, condition.model, self._done, self._total)
        self.advance(0)

    def advance(self, count: int, detail: str = "") -> None:
        """So many entries more are done."""
        self._done += count
        if count and self._done == self._total:
            LOGGER.info("%s: all %d are done", self._title, self._total)
        if self._on_progress is not None:
            self._on_progress(Progress(self._title, self._done, self._total, detail))


def is_of_run(error: Exception, folder: Path | None) -> bool:
    """Whether an error is the run's: of its disk or folder, or of a device that is lost for all that follows."""
    if isinstance(error, RunError) or (folder is not None and not folder.is_dir()):
        return True
    if type(error).__name__ == "AcceleratorError":
        return not is_out_of_memory(error)
    if not isinstance(error, OSError):
        return False
    written = None if folder is None or not isinstance(error.filename, str) else Path(error.filename)
    return error.errno in OF_THE_DISK or (
        written is not None and folder is not None and folder.absolute() in written.absolute().parents
    )
