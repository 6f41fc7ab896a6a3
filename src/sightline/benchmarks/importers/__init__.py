"""Result files of other harnesses, as the records that `sightline score` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.benchmarks.importers.tables import is_table, read_table


def foreign_records(path: Path) -> list[dict[str, Any]] | None:
    """The lines of a table (VLMEvalKit's xlsx, tsv; csv); None for a file that is none."""
    return read_table(path) if is_table(path) else None
