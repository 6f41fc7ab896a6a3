"""Files of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines(path: Path, records: list[Any]) -> Path:
    """Writes a record a line, and returns the file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
