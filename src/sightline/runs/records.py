"""Records: how each sample ended, one JSON line a sample; kept in memory, or by `Run` in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from sightline.errors import InputError
from sightline.files.json import json_text, parse_object, plain
from sightline.runs.stored import SHORT, StoredResult, line_outline
from sightline.text import shortened

Key = tuple[str, str, str]
"""Model, method and id."""


@dataclass(frozen=True)
class Record:
    """One line of samples.jsonl: a sample's result, or the error it ended with, under a model and a method.

    seconds: wall time spent on the sample, rounded to milliseconds.
    """

    id: str
    model: str = ""
    method: str = "none"
    result: Mapping[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two lines one sample's."""
        return self.model, self.method, self.id


def damaged(record: Record) -> InputError:
    """The sentence for a record whose result is not what its command writes."""
    return InputError(
        f"The result of {shortened(repr(record.id))} under {record.method} is damaged in the run folder: delete its "
        "line in samples.jsonl and give the same command again."
    )


class Records:
    """The records of one run, in memory alone: nothing is written, and nobody shares it.

    records         one a sample
    settings        what decides the results
    info            what else is worth knowing, as the sizes of batches by model
    retry_failed    whether samples recorded with an error are done again
    rank            of this process among those that share the run
    folder          where the run is kept, if it is
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, retry_failed: bool = False, rank: int = 0) -> None:
        self.settings: dict[str, Any] = dict(settings or {})
        self.info: dict[str, Any] = {}
        self.retry_failed, self.rank = retry_failed, rank
        self.records: dict[Key, Record] = {}
        self.folder: Path | None = None

    def done_ids(self, model: str = "", method: str = "none") -> set[str]:
        """The samples not to do again: those with a result and, without retry_failed, those with an error."""
        kept = (record for record in self.records.values() if record.error is None or not self.retry_failed)
        return {record.id for record in kept if (record.model, record.method) == (model, method)}

    def record(
        self,
        id: str,
        *,
        model: str = "",
        method: str = "none",
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        seconds: float = 0.0,
    ) -> Record:
        """Keeps how one sample ended; in a run folder its line is on disk when this returns.

        Exactly one of result and error is given. A sample that has its result already is not written again. Raises
        RunError when the disk is full or the file cannot be written; what was written before stays readable.
        """
        if (result is None) == (error is None):
            raise ValueError("a record has either a result or an error")
        record = Record(id, model, method, None if result is None else plain(result), error, round(seconds, 3))
        before = self.records.get(record.key)
        if before is not None and before.error is None:
            return before
        self.records[record.key] = self._write(record)
        return self.records[record.key]

    def take(self, records: Iterable[Record]) -> None:
        """Keeps records of another run, as they ended there."""
        for record in records:
            self.record(
                record.id,
                model=record.model,
                method=record.method,
                result=record.result,
                error=record.error,
                seconds=record.seconds,
            )

    def pin(self, name: str, value: str) -> None:
        """Adds a setting that is known only now, such as a model's revision; refused as InputError when it differs."""
        known = self.settings.setdefault(name, value)
        if known != value:
            raise InputError(f"The {name} is {value} now and was {known} before: begin another run.")

    def inform(self, **values: Any) -> None:
        """Notes what is worth knowing of the run and decides nothing."""
        self.info |= values

    def batch_size(self, model: str) -> int | None:
        """Entries that went through a model at once, at most; None where none did, or an older run does not say."""
        found = (self.info.get("batches") or {}).get(model)
        return found if isinstance(found, int) else None

    def refresh(self) -> set[Key]:
        """Takes up what other processes recorded since the last call, and returns the keys of what is new."""
        return set()

    def all_records(self) -> list[Record]:
        """One record a sample, of every process as of now, ordered by model, method and id."""
        return sorted(self.records.values(), key=lambda record: record.key)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process of this run is; each waits for its turn."""
        yield

    @property
    def is_summed_up(self) -> bool:
        """Whether another process has written the summary since this one opened the run."""
        return False

    def _write(self, record: Record) -> Record:
        """The record as it is kept: in memory, as it is."""
        return record


def line_of(record: Record) -> str:
    """The record as a line of samples.jsonl, its end included."""
    return json_text({name: value for name, value in asdict(record).items() if value is not None}) + "\n"


def samples_name(rank: int) -> str:
    """The file of one process: samples.jsonl, samples.1.jsonl, ..."""
    return f"samples.{rank}.jsonl" if rank else "samples.jsonl"


def read_records(folder: str | Path) -> list[Record]:
    """One record a sample over every samples*.jsonl of a run folder, in the order first written.

    Torn and damaged lines are passed over: their samples count as not done. Of several lines of one sample the first
    result stands, and without one the last error.
    """
    records: dict[tuple[str, str, str], Record] = {}
    for path in sorted(Path(folder).glob("samples*.jsonl")):
        for record in _read_lines(path):
            before = records.get(record.key)
            if before is None or before.error is not None:
                records[record.key] = record
    return list(records.values())


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from (record for record, _ in parse_lines(file, path))


def parse_lines(file: BinaryIO, path: Path) -> Iterator[tuple[Record, int]]:
    """The records of the whole lines from where a file stands, each with the place where its line ends.

    What is long of them stays in the file.
    """
    end = file.tell()
    for line in file:
        start, end = end, end + len(line)
        if not line.endswith(b"\n"):
            continue
        fields = line_outline(line) if len(line) > SHORT else None
        record = _record(parse_object(line) if fields is None else fields)
        if record is not None:
            yield left_on_disk(record, path, start, len(line)), end


def left_on_disk(record: Record, path: Path, start: int, length: int) -> Record:
    """The record of a line; a long result is read from it when it is looked at."""
    if record.result is None or length <= SHORT:
        return record
    return replace(record, result=StoredResult(path, start, length))


def _record(fields: dict[str, Any] | None) -> Record | None:
    """A line as a record; None where a field is missing, unknown, or of another kind than `Run` writes."""
    fields = {name: value for name, value in (fields or {}).items() if value is not None}
    if "id" not in fields or not fields.keys() <= _KINDS.keys():
        return None
    if any(not isinstance(value, _KINDS[name]) for name, value in fields.items()):
        return None
    return Record(**fields) if ("result" in fields) != ("error" in fields) else None


_KINDS: dict[str, Any] = {
    "id": str, "model": str, "method": str, "result": dict, "error": str, "seconds": int | float
}  # fmt: skip
