"""Tables of questions with images, from parquet, Arrow and JSON-lines files or the hub; images stay encoded in them.

Of a table's rows everything but the images is read at once. An image is an object with `read()`, which fetches its
bytes from the file when its turn comes, so that a benchmark of some GB takes no more memory than its questions.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.jsonl import json_objects

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike

HELD_LIMIT = 2**27
"""A parquet file gives its images a row group at a time, encoded; of those read last at most so many bytes are held,
and one row group at least."""

IMAGE_COLUMN = re.compile(r"image(_\d+)?$", re.IGNORECASE)

SPLITS = ("train", "validation", "val", "dev", "test")


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
class Table:
    """The rows of one configuration; `config` is "" where neither folder nor file names one."""

    config: str
    rows: Sequence[Row | BadRow]


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


def read_tables(path: Path, configs: Sequence[str], split: str) -> list[Table]:
    """The tables at a path: a file, a folder in the hub's own layout, or one written by `datasets.save_to_disk`.

    Args:
        configs: official names of configurations. A file's is the one that its folder or its own name holds, without
            regard to case, signs and spaces; tables come in this order.
        split: files and folders named after another split are left out.

    Raises:
        InputError: nothing is there, or none of it can be read.
    """
    found: dict[str, list[Row | BadRow]] = {}
    held = _RowGroups()
    for file in _files(path, split):
        found.setdefault(_config_of(file, path, configs), []).extend(_read_file(file, path, held))
    rows = [row for table in found.values() for row in table]
    errors = [row for row in rows if isinstance(row, BadRow)]
    if errors and len(errors) == len(rows):
        raise InputError(f"{errors[0].where} cannot be read ({errors[0].error}): a whole file is expected.")
    if not rows:
        raise InputError(f"{path} holds no row: questions with their images are expected.")
    return [Table(config, found[config]) for config in ["", *configs] if config in found]


def hub_table(name: str, config: str | None, split: str, bench: str = "") -> Table:
    """A table of the hub, from its cache on this machine where it is there already.

    Args:
        bench: what the benchmark is called on the command line, where a local copy can be given instead.

    Raises:
        InputError: it cannot be had; the sentence says what to download, and how to give it.
    """
    import datasets

    which = f"{name} ({config}, {split})" if config else f"{name} ({split})"
    try:
        with _quietly():
            data = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        hint = f", and give `{bench}:DIR` (to `sightline score`: --data DIR)" if bench else ""
        raise InputError(
            f"{which} is not on this machine and cannot be fetched ({_reason(error)}): where the hub can be reached, "
            f"download it with `hf download {name} --repo-type dataset --local-dir DIR`{hint}."
        ) from error
    return Table(config or "", list(_rows_of(data.with_format("arrow")[:], which, 0, Path())))


# Files ---------------------------------------------------------------------------------------------------------------


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        if path.suffix not in (".parquet", ".arrow", ".jsonl", ".json"):
            raise InputError(f"{path} is of no kind that is read: .parquet, .arrow and .jsonl files are.")
        return [path]
    if not path.is_dir():
        raise InputError(f"The data {path} does not exist: give a file, or a folder as the hub has it.")
    files = [file for file in sorted(path.rglob("*")) if _is_data(file.relative_to(path))]
    files = [file for file in files if file.suffix != ".jsonl"] or files
    wanted = [file for file in files if _split_of(file.relative_to(path)) in ("", _plain_split(split))]
    if not wanted:
        others = sorted({_split_of(file.relative_to(path)) for file in files})
        there = f"there are files of {', '.join(others)} alone" if files else "it holds none at all"
        raise InputError(f"The folder {path} holds no .parquet, .arrow or .jsonl file of the split {split}: {there}.")
    return wanted


def _is_data(file: Path) -> bool:
    """A table, and none of those that `datasets` keeps beside its data (results of map, orders of rows), nor hidden."""
    is_kept_aside = file.name.startswith(("cache-", "indices")) or any(part.startswith(".") for part in file.parts)
    return file.suffix in (".parquet", ".arrow", ".jsonl") and not is_kept_aside


def _split_of(file: Path) -> str:
    """The split that a file's folder or name gives it, "" when none."""
    words = [*file.parts[:-1], *re.split(r"[-_.]", file.stem)]
    return next((_plain_split(word.lower()) for word in words if word.lower() in SPLITS), "")


def _plain_split(split: str) -> str:
    return "validation" if split == "val" else split


def _config_of(file: Path, root: Path, configs: Sequence[str]) -> str:
    """The configuration that a folder is named after, else the longest one within the file's own name, else ""."""
    known = {_letters(config): config for config in configs}
    folders = [file.parent.name] if file == root else [root.name, *file.relative_to(root).parts[:-1]]
    for part in reversed(folders):
        if _letters(part) in known:
            return known[_letters(part)]
    within = [name for name in known if name in _letters(file.stem)]
    return known[max(within, key=len)] if within else ""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _read_file(file: Path, root: Path, held: _RowGroups) -> Iterator[Row | BadRow]:
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


def _parquet(file: Path, where: str, held: _RowGroups) -> Iterator[Row | BadRow]:
    """Row by row; of a damaged row group those before the damage, and an error for each of the others."""
    import pyarrow.parquet

    try:
        with _arrow_errors():
            source = pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        yield BadRow(where, _reason(error))
        return
    start = 0
    for group in range(source.metadata.num_row_groups):
        count = source.metadata.row_group(group).num_rows
        done = 0
        try:
            for batch in _guarded(source.iter_batches(batch_size=32, row_groups=[group])):
                table = pyarrow.Table.from_batches([batch])
                yield from _rows_of(table, where, start + done, file.parent, partial(held.fetch, file, group, done))
                done += batch.num_rows
        except (OSError, ValueError) as error:
            for row in range(start + done, start + count):
                yield BadRow(f"{where}, row {row}", _reason(error))
        start += count


class _RowGroups:
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
            yield from _rows_of(pyarrow.Table.from_batches([batch]), where, start, file.parent)
            start += batch.num_rows
    except (OSError, ValueError) as error:
        yield BadRow(f"{where}, row {start}" if start else where, f"{_reason(error)}; rows behind it are not known")


def _rows_of(
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
            yield BadRow(place, _reason(error))
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


# Other libraries' errors and noise ------------------------------------------------------------------------------------


@contextmanager
def _arrow_errors() -> Iterator[None]:
    """Every error of Arrow as an OSError or a ValueError."""
    import pyarrow

    try:
        yield
    except (OSError, ValueError):
        raise
    except (pyarrow.ArrowException, IndexError, KeyError, MemoryError) as error:
        raise OSError(_reason(error)) from error


def _guarded(batches: Iterator[Any]) -> Iterator[Any]:
    with _arrow_errors():
        yield from batches


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of `datasets`, and without its progress bars where no one sees them move."""
    import datasets

    logging = datasets.utils.logging
    verbosity, had_bars = logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            datasets.enable_progress_bars()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
