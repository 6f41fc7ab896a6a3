"""What a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sightline.errors import SightlineError
from sightline.files.json import json_text
from sightline.results.table import Section
from sightline.runs.progress import OnProgress
from sightline.runs.progress import Progress as Done
from sightline.runs.records import Record, read_records
from sightline.text import printable

Item = TypeVar("Item")

SHOWN = 5
"""Failed entries whose errors are shown."""

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
        """The JSON document, where it is wanted."""
        if self.is_json:
            self._out.file.write(json_text(document, indent=2, is_ascii=True) + "\n")
            self._out.file.flush()

    def text(self, text: str) -> None:
        """A result in words; left out where JSON is wanted."""
        if not self.is_json:
            self._out.print(printable(text), markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table, its first column to the left and numbers to the right; left out where JSON is wanted."""
        if self.is_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)

    def texts(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of words, folded where they are long; left out where JSON is wanted."""
        if self.is_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, max_width=36, overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)

    def sections(self, sections: Iterable[Section]) -> None:
        """Sentences and tables of a result."""
        for section in sections:
            if isinstance(section, str):
                self.text(section)
            elif section.is_prose:
                self.texts(section.title, section.columns, section.rows)
            else:
                self.table(section.title, section.columns, section.rows)

    @contextmanager
    def job(self, out: Path | None, noun: str = "samples", stopped: str = "") -> Iterator[OnProgress]:
        """Around a job: its progress is drawn, what libraries print goes to standard error.

        Where it is stopped from the keyboard, the sentence says how to go on. noun: what `out` then holds some
        of; stopped: another sentence.
        """
        with self.guarded(), self._bars() as bars:
            try:
                yield bars
            except KeyboardInterrupt:
                raise SightlineError(stopped or _stopped(out, noun)) from None

    @contextmanager
    def _bars(self) -> Iterator[OnProgress]:
        """A bar a part on standard error where that is a terminal; elsewhere what was done before is noted."""
        with self.progress("", 0) as bar:
            bar.remove_task(bar.task_ids[0])
            tasks: dict[str, Any] = {}

            def draw(at: Done) -> None:
                if at.title not in tasks:
                    if at.done:
                        self.note(f"{at.title}: {at.done} of {at.total} are done already.")
                    tasks[at.title] = bar.add_task(_plain(at.title), total=at.total)
                bar.update(tasks[at.title], completed=at.done, total=at.total)
                if at.detail:
                    bar.update(tasks[at.title], description=_plain(f"{at.title}  {at.detail}"))

            yield draw

    def failures(self, failed: Sequence[Record], noun: str = "Sample") -> None:
        """The first few errors of entries that failed."""
        for record in failed[:SHOWN]:
            self.note(f"{noun} {record.id} failed under {record.method} on {record.model}: {record.error}")
        if len(failed) > SHOWN:
            self.note(f"... and {len(failed) - SHOWN} more, in samples.jsonl.")

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


def _plain(text: str) -> str:
    """Text that is drawn as it stands: no escape code of a name reaches the terminal, no bracket of it is markup."""
    return escape(printable(text))


def _stopped(out: Path | None, noun: str) -> str:
    if out is None:
        return "Stopped from the keyboard."
    count = sum(len(read_records(folder)) for folder in (out, *(path.parent for path in out.glob("*/run.json"))))
    return (
        f"Stopped from the keyboard; {count} {noun} are in {out}: give the same command with --out {out} to continue."
    )
