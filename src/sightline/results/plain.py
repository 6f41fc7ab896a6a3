"""Sections as plain text and as HTML, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

from sightline.files.json import html_table
from sightline.results.table import Section


def plain_text(sections: Sequence[Section]) -> str:
    """Lines of text; the columns of a table stand below each other."""
    parts = []
    for section in sections:
        if isinstance(section, str):
            parts.append(section)
            continue
        cells = [list(section.columns), *map(list, section.rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(section.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        parts.append("\n".join([section.title, *lines]))
    return "\n\n".join(parts)


def html_text(sections: Sequence[Section]) -> str:
    """The same as HTML without scripts."""
    return "".join(
        f"<p>{html.escape(section)}</p>"
        if isinstance(section, str)
        else html_table(section.title, section.columns, section.rows)
        for section in sections
    )
