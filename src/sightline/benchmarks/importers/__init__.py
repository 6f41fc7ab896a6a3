"""Result files of other harnesses, as the records that `sightline score` and `compare` read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.benchmarks.importers.lmms_eval import is_sample, sample_records
from sightline.benchmarks.importers.objects import batch_records, is_batch
from sightline.benchmarks.importers.tables import is_table, read_table
from sightline.benchmarks.importers.vlmevalkit import answer_records


def foreign_records(path: Path, lines: Sequence[dict[str, Any]] | None = None) -> list[dict[str, Any]] | None:
    """The lines of another harness's file: VLMEvalKit's table (xlsx, tsv, json; csv), lmms-eval's or OpenAI's `lines`.

    None for a file that is neither. lines: of a JSON file, where they are read already.
    """
    if lines is None:
        return answer_records(read_table(path)) if is_table(path) else None
    if lines and all(is_sample(line) for line in lines):
        return sample_records(lines)
    if lines and all(map(is_batch, lines)):
        return batch_records(lines)
    if lines and all("index" in line and "prediction" in line for line in lines):
        return answer_records(lines)
    return None
