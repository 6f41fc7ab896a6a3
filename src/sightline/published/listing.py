"""The published tables as a list."""

from __future__ import annotations

from typing import Any

from sightline.published.table import reproductions


def entries() -> list[dict[str, Any]]:
    """What `sightline list reproductions` prints of each."""
    return [
        {
            "name": table.name,
            "about": table.title,
            "source": table.source,
            "model": table.model,
            "data": table.data,
            "methods": list(table.methods or table.flows),
            "published": sum(len(entry.figures) or 6 for entry in table.published),
        }
        for table in reproductions().values()
    ]
