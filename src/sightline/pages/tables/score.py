"""Score documents as tables, and the file of single items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError, SightlineError
from sightline.files.json import json_text, write_atomically
from sightline.results.table import Section, Table

if TYPE_CHECKING:
    from sightline.benchmarks.answers import Scored

PARTS = ("splits", "subtasks")
WORDS = ("bench", "parser")


def sections(title: str, document: Mapping[str, Any]) -> list[Section]:
    """A score document as a table: figures over all, and a row a split or subtask where it has them."""
    rows: dict[str, Mapping[str, Any]] = {"all": document}
    for part in PARTS:
        rows |= document.get(part, {})
    columns = [name for name, value in document.items() if name not in (*WORDS, *PARTS) and _is_cell(value)]
    for figures in list(rows.values())[1:]:
        columns += [name for name, value in figures.items() if name not in columns and _is_cell(value)]
    cells = [(name, *(_cell(figures, column) for column in columns)) for name, figures in rows.items()]
    return [Table(title, ("", *(column.replace("_", " ") for column in columns)), cells)]


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(figures: Mapping[str, Any], column: str) -> str:
    if column not in figures:
        return ""
    value = figures[column]
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"


def write_items(path: Path, scored: Scored) -> None:
    """One JSON line an answered item: id, parsed, right, and beside them group, truth, response and detail."""
    if path.is_dir():
        raise InputError(f"The items file {path} is a folder: give a file.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"The items file {path} cannot be written: its folder does not exist.")
    lines = []
    for item in scored.items:
        judgement = scored.judgements.get(item.id)
        if judgement is None:
            continue
        line = {
            "id": item.id,
            "parsed": judgement.parsed,
            "right": judgement.right,
            "group": item.group,
            "truth": item.truth,
            "response": scored.responses[item.id],
            **({"detail": judgement.detail} if judgement.detail else {}),
        }
        lines.append(json_text(line, is_ascii=True))
    try:
        write_atomically(path, "\n".join(lines))
    except SightlineError as error:
        why = error.__cause__ or error
        raise SightlineError(
            f"The items file {path} cannot be written ({getattr(why, 'strerror', None) or why}): give another."
        ) from error
