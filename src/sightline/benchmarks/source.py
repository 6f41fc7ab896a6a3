"""Tables of questions with images, from parquet, Arrow and JSON-lines files or the hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sightline.benchmarks.table_files import BadRow, Row, RowGroups, RowImage, arrow_rows, read_file, reason_of
from sightline.errors import InputError

__all__ = ["BadRow", "Row", "RowImage", "SourceTable", "hub_table", "read_tables"]

SPLITS = ("train", "validation", "val", "dev", "test")


@dataclass(frozen=True)
class SourceTable:
    """The rows of one configuration; `config` is "" where neither folder nor file names one."""

    config: str
    rows: Sequence[Row | BadRow]


def read_tables(path: Path, configs: Sequence[str], split: str) -> list[SourceTable]:
    """The tables at a path: a file, a folder in the hub's own layout, or one written by `datasets.save_to_disk`.

    Args:
        configs: official names of configurations. A file's is the one that its folder or its own name holds, without
            regard to case, signs and spaces; tables come in this order.
        split: files and folders named after another split are left out.

    Raises:
        InputError: nothing is there, or none of it can be read.
    """
    found: dict[str, list[Row | BadRow]] = {}
    held = RowGroups()
    for file in _files(path, split):
        found.setdefault(_config_of(file, path, configs), []).extend(read_file(file, path, held))
    rows = [row for table in found.values() for row in table]
    errors = [row for row in rows if isinstance(row, BadRow)]
    if errors and len(errors) == len(rows):
        raise InputError(f"{errors[0].where} cannot be read ({errors[0].error}): a whole file is expected.")
    if not rows:
        raise InputError(f"{path} holds no row: questions with their images are expected.")
    return [SourceTable(config, found[config]) for config in ["", *configs] if config in found]


def hub_table(name: str, config: str | None, split: str, bench: str = "") -> SourceTable:
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
            f"{which} is not on this machine and cannot be fetched ({reason_of(error)}): where the hub can be reached, "
            f"download it with `hf download {name} --repo-type dataset --local-dir DIR`{hint}."
        ) from error
    return SourceTable(config or "", list(arrow_rows(data.with_format("arrow")[:], which, 0, Path())))


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
