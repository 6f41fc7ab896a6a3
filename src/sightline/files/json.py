"""JSON documents of plain numbers, and files that are replaced as a whole."""

from __future__ import annotations

import errno
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline.errors import RunError


def plain(value: Any) -> Any:
    """The value as JSON knows it: string keys, lists, plain numbers; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if hasattr(value, "tolist"):  # NumPy's and torch's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")


def json_text(value: Any, indent: int | None = None, is_ascii: bool = False) -> str:
    """A JSON document without NaN: numbers that are not finite are null. is_ascii: for outputs of unknown encoding."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=is_ascii, allow_nan=False)


def read_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where it cannot be read, is damaged, or holds something else."""
    try:
        return parse_object(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except (OSError, ValueError):
        return None


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that a JSON text holds; None where it is damaged, or something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """A small table for notebooks, without scripts; words are escaped, numbers stand to the right."""

    def cell(tag: str, text: str, place: int) -> str:
        side = "left" if place == 0 else "right"
        return f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'

    lines = ["".join(cell("td", text, place) for place, text in enumerate(row)) for row in rows]
    head = "".join(cell("th", column, place) for place, column in enumerate(columns))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    below = f"<p>{html.escape(note)}</p>" if note else ""
    return (
        f"<p><b>{html.escape(title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )


def write_atomically(path: Path, text: str, kept: str = "samples written before are kept there") -> None:
    """Replaces a file so that a reader, or the next start after a crash, sees the old text or the new, never a part.

    A device or a pipe, as /dev/stdout, is written to and stays what it is, and so does a link.

    Raises RunError when the disk is full or the file cannot be written.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if is_device(path):
            path.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")
            return
        with part.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise write_error(path.parent, error, kept) from error


def is_device(path: Path) -> bool:
    """Whether a name is that of a device or a pipe, which must not be replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder last through a crash of the machine, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def write_error(folder: Path, error: OSError, kept: str) -> RunError:
    """The sentence for a failed write: why, what is kept, and how to go on."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = "the disk is full" if full else f"writing failed ({error.strerror or error})"
    then = "free some space and give the same command again" if full else "give the same command again to continue"
    return RunError(f"{folder}: {why}; {kept}: {then}.")
