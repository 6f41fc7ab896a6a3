"""Sections as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.results.table import Section


def markdown_text(sections: Sequence[Section]) -> str:
    """Sentences as paragraphs, tables with their title above."""
    parts: list[str] = []
    for section in sections:
        if isinstance(section, str):
            parts.append(section)
            continue
        lines = [_row(section.columns), _row(["---"] * len(section.columns)), *map(_row, section.rows)]
        parts += [f"**{section.title}**", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
