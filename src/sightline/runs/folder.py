"""A run folder: its settings, one JSON line a sample, and the summary. Nothing is lost, and nothing counted twice.

    run.json         command, settings, versions, seed, device; written before the first sample
    samples.jsonl    one line a sample, on disk before the next sample begins
    run.log          who, when, with which settings; warnings, failures, how it ended
    summary.json     aggregates with their settings, replaced as a whole

A run is continued by opening the same folder with the same settings. A process killed at any moment leaves at most one
torn last line, which is dropped, and its sample done again. Several processes write a file each (samples.1.jsonl, ...);
reading the run merges them all.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from sightline.errors import InputError
from sightline.files.json import json_text, plain, write_atomically, write_error
from sightline.runs.claims import CLAIMS_FILE
from sightline.runs.description import RUN_FILE, described, difference, now, refuse_difference, versions
from sightline.runs.lines_file import open_lines
from sightline.runs.log import LOG_NAME, RunLog
from sightline.runs.records import Key, Record, Records, left_on_disk, line_of, parse_lines, read_records, samples_name

if sys.platform != "win32":
    import fcntl

SUMMARY_FILE = "summary.json"


class Run(Records):
    """A run folder, open for writing by this process. Use `Run.open(...)` in a `with` block.

    Beside those of `Records`, as of opening of every process and then of this one:

    folder     where the files stand
    settings   what decides the results; as in run.json
    """

    folder: Path

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], rank: int, file: FileIO, *, retry_failed: bool = False
    ) -> None:
        super().__init__(settings, retry_failed=retry_failed, rank=rank)
        self.folder, self._file, self._log = folder, file, RunLog(folder)
        self._opened = time.time_ns()
        self._read_to: dict[str, int] = {}

    @classmethod
    def open(
        cls,
        folder: str | Path,
        command: str,
        settings: Mapping[str, Any],
        *,
        info: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        rank: int = 0,
    ) -> Run:
        """Begins a run in `folder`, or continues the one that is there.

        settings   everything that decides the results; a folder of other settings is refused
        info       worth keeping, but free to differ when the run is continued (device, limit): the latest stands
        retry_failed   whether samples recorded with an error are done again
        rank       of this process; each rank writes a file of its own

        Raises InputError when the folder is a file, cannot be written, holds a run of another command or of other
        settings (named), or is being written by another process of the same rank.
        """
        folder = Path(folder)
        _make_folder(folder)
        settings = plain(settings)
        wanted = {"command": command, "settings": settings}
        has_samples = any(folder.glob("samples*.jsonl"))  # looked for first: another rank makes them after run.json
        if (folder / RUN_FILE).exists():
            refuse_difference(folder, wanted)
        elif has_samples:
            raise InputError(f"{folder} holds samples but no {RUN_FILE}: it is no run folder, give another.")
        else:
            about = wanted | {"info": plain(info or {}), "versions": versions(), "started": now()}
            write_atomically(folder / RUN_FILE, json_text(about, indent=2))
        file = open_lines(folder / samples_name(rank))
        run = cls(folder, settings, rank, file, retry_failed=retry_failed)
        run.refresh()  # from where on lines are new
        run.records = {record.key: record for record in read_records(folder)}
        run._log.begin(command, settings, rank, f"{len(run.records)} records are here" if run.records else "")
        run.inform(**(plain(info or {}) if rank == 0 else {}))
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._log.end(error, f"{len(self.records)} records are here")
        self._log.close()
        if error is not None and not self.records:
            self._vanish()

    def _vanish(self) -> None:
        """Leaves nothing of a run that failed before its first sample, so that the folder can be given again."""
        (self.folder / samples_name(self.rank)).unlink(missing_ok=True)
        if any(self.folder.glob("samples*.jsonl")):
            return  # another process is at work
        for name in (RUN_FILE, CLAIMS_FILE, LOG_NAME):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it was there before
            self.folder.rmdir()

    def pin(self, name: str, value: str) -> None:
        """Adds a setting that is known only now, such as a model's revision; refused as InputError when it differs."""
        path = self.folder / RUN_FILE
        with self.alone():
            about = described(self.folder)
            known = about["settings"].setdefault(name, value)
            if known != value:
                raise difference(self.folder, name, known, value)
            write_atomically(path, json_text(about, indent=2))

    def inform(self, **values: Any) -> None:
        """Notes in run.json what is worth knowing of the run and decides nothing; the latest stands."""
        with self.alone():
            about = described(self.folder)
            self.info = about["info"] | values
            if self.info != about["info"]:
                write_atomically(self.folder / RUN_FILE, json_text(about | {"info": self.info}, indent=2))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process of this run is; each waits for its turn."""
        if sys.platform == "win32":
            yield
            return
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @property
    def is_summed_up(self) -> bool:
        """Whether a process has written summary.json since this one opened the run."""
        path = self.folder / SUMMARY_FILE
        return path.exists() and path.stat().st_mtime_ns >= self._opened

    def _write(self, record: Record) -> Record:
        if record.error is not None:
            self._log.failed(record.id, record.model, record.method, record.error)
        line = line_of(record).encode("utf-8", "surrogatepass")
        start, rest = self._file.tell(), memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            if os.fstat(self._file.fileno()).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the folder is gone")
        except OSError as error:
            self._forget_from(start)
            raise write_error(self.folder, error, f"{len(self.records)} samples are kept there") from error
        return left_on_disk(record, self.folder / samples_name(self.rank), start, len(line))

    def _forget_from(self, offset: int) -> None:
        """Takes a half-written line away; where even that fails, the next reader drops it."""
        try:
            self._file.seek(offset)
            self._file.truncate()
        except OSError:
            return

    def refresh(self) -> set[Key]:
        """Takes up the lines that other processes wrote since the last call, and returns the keys of what is new."""
        new = set()
        for path in sorted(self.folder.glob("samples*.jsonl")):
            if path.name == samples_name(self.rank):
                continue
            with path.open("rb") as file:
                file.seek(self._read_to.get(path.name, 0))
                for record, end in parse_lines(file, path):
                    self._read_to[path.name] = end
                    before = self.records.get(record.key)
                    if before is None or (before.error is not None and before != record):
                        self.records[record.key] = record
                        new.add(record.key)
        return new

    def all_records(self) -> list[Record]:
        """One record a sample, of every process as of now, ordered by model, method and id."""
        for record in read_records(self.folder):
            self.records[record.key] = record
        return sorted(self.records.values(), key=lambda record: record.key)

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Writes summary.json as a whole and returns its path."""
        target = self.folder / SUMMARY_FILE
        write_atomically(target, json_text(summary, indent=2))
        return target


def fresh_folder(name: str) -> Path:
    """runs/NAME-DATE-TIME, numbered where another command of the same second has that folder."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(folder for folder in (Path("runs") / each for each in names) if not folder.exists())


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"The run folder {folder} is a file: give a folder, or a name that is free.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The run folder {folder} cannot be made ({error.strerror}).") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The run folder {folder} cannot be written: give another.")
