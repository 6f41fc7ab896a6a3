"""The rows of one parquet, Arrow or JSON-lines file; images stay encoded in it until their turn comes.

Of a table's rows everything but the images is read at once. An image is an object with `read()`, which fetches its
bytes from the file when its turn comes, so that a benchmark of some GB takes no more memory than its questions.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.files.jsonl import json_objects

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike

HELD_LIMIT = 2**27
"""A parquet file gives its images a row group at a time, encoded; of those read last at most so many bytes are held,
and one row group at least."""

IMAGE_COLUMN = re.compile(r"image(_\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row that could be read.

    where   file and row number, for messages
    values  its columns without the images
    images  its image columns, as a Sample takes them; a column without an image is left out
    """

    where: str
    values: Mapping[str, Any]
    images: Mapping[str, ImageLike] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, as of a truncated file."""

    where: str
    error: str


@dataclass(frozen=True)
class RowImage:
    """An image that stays where it is until it is read. `name` says in messages which it is."""

    name: str
    fetch: Callable[[], Any] = field(repr=False)
    folder: Path = field(default=Path(), repr=False)

    def read(self) -> bytes:
        """The encoded image; OSError or ValueError when the file does not give it any more."""
        with _arrow_errors():
            value = self.fetch()
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return (self.folder / value).read_bytes()
        if not isinstance(value, bytes):
            raise ValueError("there are no bytes")
        return value


def read_file(file: Path, root: Path, held: RowGroups) -> Iterator[Row | BadRow]:
    where = str(file.relative_to(root)) if file != root else file.name
    if file.suffix == ".parquet":
        return _parquet(file, where, held)
    return _arrow(file, where) if file.suffix == ".arrow" else _json_lines(file, where)


def _json_lines(file: Path, where: str) -> Iterator[Row | BadRow]:
    """Lines whose image columns name files beside them."""
    for line in json_objects(file):
        place = f"{where}, line {line.number}"
        if line.value is None:
            yield BadRow(place, line.error or "no object")
            continue
        images = {
            name: file.parent / value
            for name, value in line.value.items()
            if IMAGE_COLUMN.match(name) and isinstance(value, str) and value
        }
        yield Row(place, {name: value for name, value in line.value.items() if name not in images}, images)


def _parquet(file: Path, where: str, held: RowGroups) -> Iterator[Row | BadRow]:
    """Row by row; of a damaged row group those before the damage, and an error for each of the others."""
    import pyarrow.parquet

    try:
        with _arrow_errors():
            source = pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        yield BadRow(where, reason_of(error))
        return
    start = 0
    for group in range(source.metadata.num_row_groups):
        count = source.metadata.row_group(group).num_rows
        done = 0
        try:
            for batch in _guarded(source.iter_batches(batch_size=32, row_groups=[group])):
                table = pyarrow.Table.from_batches([batch])
                yield from arrow_rows(table, where, start + done, file.parent, partial(held.fetch, file, group, done))
                done += batch.num_rows
        except (OSError, ValueError) as error:
            for row in range(start + done, start + count):
                yield BadRow(f"{where}, row {row}", reason_of(error))
        start += count


class RowGroups:
    """Image columns of the row groups read last, so that their rows are not each read anew."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[Path, int, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, file: Path, group: int, done: int, column: str, row: int) -> Any:
        """The value of a column; `row` is counted from `done` within its row group."""
        import pyarrow.parquet

        key = (file, group, column)
        with self._lock:
            if key not in self._held:
                table = pyarrow.parquet.ParquetFile(file).read_row_group(group, columns=[column])
                self._held[key] = table.column(column)
            self._held.move_to_end(key)
            values = self._held[key]
            while len(self._held) > 1 and sum(held.nbytes for held in self._held.values()) > HELD_LIMIT:
                self._held.popitem(last=False)
        return values[done + row].as_py()


def _arrow(file: Path, where: str) -> Iterator[Row | BadRow]:
    """A memory-mapped Arrow stream, as `datasets` writes it; of a truncated one the batches before its end."""
    import pyarrow

    start = 0
    try:
        with _arrow_errors():
            mapped = pyarrow.memory_map(str(file))
            stream = pyarrow.ipc.open_stream(mapped)
        for batch in _guarded(stream):
            yield from arrow_rows(pyarrow.Table.from_batches([batch]), where, start, file.parent)
            start += batch.num_rows
    except (OSError, ValueError) as error:
        yield BadRow(f"{where}, row {start}" if start else where, f"{reason_of(error)}; rows behind it are not known")


def arrow_rows(
    table: Any, where: str, start: int, folder: Path, fetch: Callable[[str, int], Any] | None = None
) -> Iterator[Row | BadRow]:
    """The rows of an Arrow table, images left in it, or fetched elsewhere by column and row."""
    names = [name for name in table.column_names if IMAGE_COLUMN.match(name)]
    texts = table.drop_columns(names)
    present = {name: _present(table.column(name)) for name in names}
    take = fetch or (lambda name, row: table.column(name)[row].as_py())
    for row in range(table.num_rows):
        place = f"{where}, row {start + row}"
        try:
            values = {name: texts.column(name)[row].as_py() for name in texts.column_names}
        except (ValueError, UnicodeError, OverflowError) as error:
            yield BadRow(place, reason_of(error))
            continue
        images = {
            name: RowImage(f"in column {name} of {place}", partial(take, name, row), folder)
            for name in names
            if present[name][row]
        }
        yield Row(place, values, images)


def _present(column: Any) -> list[bool]:
    """Whether there is an image, without reading it: bytes, the path of a file, or both."""
    import pyarrow
    import pyarrow.compute as compute

    if not pyarrow.types.is_struct(column.type):
        return list(column.is_valid().to_pylist())
    parts = [part.name for part in column.type if part.name in ("bytes", "path")]
    valid = [compute.is_valid(compute.struct_field(column, part)).to_pylist() for part in parts]
    return [any(row) for row in zip(*valid, strict=True)] if valid else [False] * len(column)


# Arrow's errors ------------------------------------------------------------------------------------------------------


@contextmanager
def _arrow_errors() -> Iterator[None]:
    """Every error of Arrow as an OSError or a ValueError."""
    import pyarrow

    try:
        yield
    except (OSError, ValueError):
        raise
    except (pyarrow.ArrowException, IndexError, KeyError, MemoryError) as error:
        raise OSError(reason_of(error)) from error


def _guarded(batches: Iterator[Any]) -> Iterator[Any]:
    with _arrow_errors():
        yield from batches


def reason_of(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
