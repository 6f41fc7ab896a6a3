"""What a result is shown as: sentences and tables, in their order; whoever prints them chooses how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Table:
    """Cells in words. is_prose: cells are sentences, folded where they are long; else numbers stand to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_prose: bool = False


Section: TypeAlias = str | Table


class Sections(list[Section]):
    """Sections as they are put together."""

    def text(self, text: str) -> None:
        """A sentence."""
        self.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of numbers."""
        self.append(Table(title, columns, rows))

    def texts(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of words."""
        self.append(Table(title, columns, rows, is_prose=True))
