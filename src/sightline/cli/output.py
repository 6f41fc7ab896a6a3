"""What a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sightline.files.json import json_text
from sightline.text import printable

Item = TypeVar("Item")

WIDTH = 1000
"""Columns that a table may take in a file or a pipe; it takes as many as it needs."""


class Output:
    """Standard output and error of one command; with `is_json` standard output carries one JSON document alone."""

    def __init__(self, is_json: bool) -> None:
        self.is_json = is_json
        self._out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH, highlight=False)
        self._err = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 10_000, highlight=False)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Inside, what libraries print goes to standard error."""
        with redirect_stdout(sys.stderr):
            yield

    def document(self, document: Mapping[str, Any]) -> None:
        """The JSON document, where it is asked for."""
        if self.is_json:
            self._out.file.write(json_text(document, indent=2, is_ascii=True) + "\n")
            self._out.file.flush()

    def text(self, text: str) -> None:
        """A result in words; left out where JSON is asked for."""
        if not self.is_json:
            self._out.print(printable(text), markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table, its first column to the left and numbers to the right; left out where JSON is asked for."""
        if self.is_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)

    def texts(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of words, folded where they are long; left out where JSON is asked for."""
        if self.is_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, max_width=36, overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)

    def note(self, text: str) -> None:
        """A word beside the result, on standard error."""
        self._err.print(printable(text), style="dim", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int, done: int = 0) -> Iterator[Progress]:
        """A bar on standard error where that is a terminal; advance its only task, number 0."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        is_shown = sys.stderr.isatty()
        with Progress(*columns, console=self._err, transient=True, disable=not is_shown) as bar:
            bar.add_task(title, total=total, completed=done)
            yield bar
