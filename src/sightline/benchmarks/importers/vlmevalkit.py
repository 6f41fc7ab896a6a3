"""What VLMEvalKit writes: the benchmark's table with `prediction`, and judged companions with `score` or `hit`.

Its POPE table has a row a question about an image, "category" naming all splits that have it, joined by commas; they
are taken apart again, as its own rating does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCORES = ("score", "hit", "correct")

SPLITS = frozenset(("random", "popular", "adversarial"))


def answer_records(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of a table's rows, those of several POPE splits once a split."""
    found = []
    for row in rows:
        record = dict(row)
        scores = {name: _number(row[name]) for name in SCORES if name in row}
        metrics = {name: value for name, value in scores.items() if value is not None}
        if metrics:
            record["metrics"] = metrics
        parts = [part.strip() for part in str(row.get("category") or "").split(",")]
        if len(parts) > 1 and SPLITS.issuperset(parts):
            found += [{**record, "category": part} for part in parts]
        else:
            found.append(record)
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = {"true": 1.0, "false": 0.0}.get(value.strip().lower(), value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
