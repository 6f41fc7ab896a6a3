"""Samples from whatever holds them: files, tables, data sets, lists, conversations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sightline.data.json_lines import FIELDS, read_samples, row_sample
from sightline.data.messages import Part, as_image, is_messages
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.text import shortened

KINDS = (
    "a path of JSON lines, the name of a benchmark, samples, a DataFrame, a datasets.Dataset, dicts with "
    '"prompt" or "messages", or chat messages'
)


def as_samples(
    data: Any, *, limit: int | None = None, named: Callable[[str], Iterable[Sample]] | None = None
) -> list[Sample]:
    """The samples that data stands for, each with an id of its own.

    Args:
        data: a path of JSON lines; a name that `named` knows, as a benchmark's; one `Sample` or several; a DataFrame or
            a `datasets.Dataset` with the columns of a JSON line (`read_samples`), whose images may be files, bytes,
            Pillow pictures or the {"bytes", "path"} of `datasets`; an iterable of such dicts; one conversation or more.
        limit: only so many, the first; the rest is not read.
        named: gives the samples of a name that is no file.

    Raises:
        InputError: for data of another kind, a row that is no sample, two samples with one id, and no sample at all.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit is {limit}: give at least 1.")
    if isinstance(data, str | Path):
        return _of_name(data, limit, named)
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, entry in enumerate(islice(_entries(data), limit), start=1):
        sample = as_sample(entry, str(number), f"Row {number}: ")
        if sample.id in seen:
            raise InputError(
                f"Row {number}: the id {shortened(repr(sample.id))} is already that of row {seen[sample.id]}."
            )
        seen[sample.id] = number
        samples.append(sample)
    if not samples:
        raise InputError("The data holds no sample: give at least one.")
    return samples


def as_sample(entry: Any, number: str = "", where: str = "") -> Sample:
    """A sample from one entry: a `Sample`, a conversation, or a dict with "prompt" or "messages"; `number` its id."""
    if isinstance(entry, Sample):
        return entry if entry.id or not number else replace(entry, id=number)
    if is_messages(entry):
        return row_sample({"messages": entry}, number, where)
    if isinstance(entry, Mapping):
        return row_sample({name: _value(name, value) for name, value in entry.items()}, number, where)
    raise InputError(f"{where}what is of type {type(entry).__name__} is no sample: give {KINDS}.")


def is_inputs(value: Any) -> bool:
    """Whether a value is what a model's forward takes."""
    return isinstance(value, Mapping) and bool(value.keys() & {"input_ids", "inputs_embeds"})


def samples_digest(samples: Iterable[Sample]) -> str:
    """A short digest, another for another list of samples: of words, answers, and pictures by content or file."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr((sample.id, sample.answer, [turn.role for turn in sample.turns])).encode("utf-8", "replace"))
        for part in (part for turn in sample.turns for part in turn.parts):
            digest.update(_identity(part))
    return digest.hexdigest()[:16]


def _identity(part: Part) -> bytes:
    contents = part.content if part.kind == "video" else (part.content,)
    return part.kind.encode() + b"".join(hashlib.sha256(_bytes_of(content)).digest() for content in contents)


def _bytes_of(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if hasattr(content, "tobytes"):
        return repr((content.mode, content.size)).encode() + bytes(content.tobytes())
    if isinstance(content, Path) and content.is_file():
        return f"{content.name}\0{content.stat().st_size}".encode("utf-8", "surrogatepass")
    return str(getattr(content, "name", content)).encode("utf-8", "surrogatepass")


def _of_name(data: str | Path, limit: int | None, named: Callable[[str], Iterable[Sample]] | None) -> list[Sample]:
    path = Path(data)
    if named is not None and isinstance(data, str) and not path.exists() and path.suffix not in (".jsonl", ".json"):
        return as_samples(list(named(data)), limit=limit)
    return read_samples(path)[:limit]


def _entries(data: Any) -> Iterator[Any]:
    if isinstance(data, Sample) or is_messages(data):
        yield data
    elif is_inputs(data):
        raise InputError("The data is what a model's forward takes, and samples are needed here: give prompts.")
    elif hasattr(data, "columns") and hasattr(data, "itertuples"):
        yield from _table(data)
    elif isinstance(data, Mapping):
        if not data.keys() & {"prompt", "messages"}:
            held = ", ".join(map(repr, list(data)[:5]))
            raise InputError(f"The data is a mapping of {held}: give one of its values, or {KINDS}.")
        yield data
    elif hasattr(data, "features") and hasattr(data, "column_names") and hasattr(data, "__getitem__"):
        yield from _dataset(data)
    elif isinstance(data, Iterable) and not isinstance(data, bytes):
        yield from data
    else:
        raise InputError(f"The data is of type {type(data).__name__}: give {KINDS}.")


def _table(frame: Any) -> Iterator[dict[str, Any]]:
    """The rows of a DataFrame; a cell without a value is None."""
    names = [str(name) for name in frame.columns]
    if not {"prompt", "messages"} & set(names):
        raise InputError(
            f"The table has the columns {', '.join(names[:12])}, and no prompt or messages: rename the one that holds "
            "the question."
        )
    for row in frame.itertuples(index=False, name=None):
        yield {name: None if _is_missing(value) else value for name, value in zip(names, row, strict=True)}


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


class _Cell:
    """An image of a data set, fetched when its turn comes."""

    def __init__(self, rows: Any, row: int, column: str, place: int | None) -> None:
        self._rows, self._row, self._column, self._place = rows, row, column, place
        self.name = f"{column} of row {row + 1}"

    def read(self) -> bytes:
        """The bytes of the image's file."""
        cell = self._rows[self._row][self._column]
        found = as_image(cell if self._place is None else cell[self._place])
        return found if isinstance(found, bytes) else Path(found).read_bytes()


def _dataset(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `datasets.Dataset`, its images left where they are."""
    plain = [name for name, kind in rows.features.items() if type(kind).__name__ in ("Value", "ClassLabel")]
    names = [name for name in rows.column_names if name in FIELDS or name in plain]
    if not {"prompt", "messages"} & set(names):
        raise InputError(
            f"The data set has the columns {', '.join(rows.column_names[:12])}, and no prompt or messages: rename the "
            "one that holds the question (rename_column)."
        )
    rows = rows.select_columns(names)
    pictured = [name for name in ("image", "images") if name in names and _is_pictured(rows.features[name])]
    if pictured:
        rows = _undecoded(rows, pictured)
    words = rows.remove_columns(pictured)
    for number in range(len(rows)):
        record = dict(words[number]) if words.column_names else {}
        for name in pictured:
            cell = rows[number][name]
            if isinstance(cell, list):
                record[name] = [_Cell(rows, number, name, place) for place in range(len(cell))]
            elif cell is not None:
                record[name] = _Cell(rows, number, name, None)
        yield record


def _is_pictured(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return type(inner).__name__ == "Image"


def _undecoded(rows: Any, names: Iterable[str]) -> Any:
    from datasets import Image

    for name in names:
        bare = Image(decode=False)
        rows = rows.cast_column(name, bare if type(rows.features[name]).__name__ == "Image" else [bare])
    return rows


def _value(name: str, value: Any) -> Any:
    """A cell as a sample takes it: lists of arrays as lists, pictures out of their wrapping."""
    if name in ("images", "video", "messages") and hasattr(value, "tolist"):
        value = value.tolist()
    if name in ("images", "video") and isinstance(value, list | tuple):
        return [as_image(entry) for entry in value]
    return as_image(value) if name in ("image", "images", "audio") else value
