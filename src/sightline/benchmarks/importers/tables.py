"""Tables of answers: tsv, csv and xlsx, a row a record."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.files.jsonl import read_text

SUFFIXES = {".tsv": "\t", ".csv": ",", ".xlsx": ""}


def is_table(path: Path) -> bool:
    """By the name's ending."""
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows by the names in the first line; empty cells are left out. InputError when it cannot be read."""
    if path.suffix.lower() == ".xlsx":
        return _sheet(path)
    csv.field_size_limit(2**31 - 1)
    text = read_text(path).replace("\0", "")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=SUFFIXES[path.suffix.lower()])
    try:
        rows = [{name: value for name, value in row.items() if name and value not in (None, "")} for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: the table cannot be read ({error}).") from error
    if not rows:
        raise InputError(f"{path} holds no row: a line of names and lines of answers are expected.")
    return rows


def _sheet(path: Path) -> list[dict[str, Any]]:
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{path} is an Excel file, which needs the openpyxl library: pip install openpyxl, or save it as .tsv."
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        lines = sheet.iter_rows(values_only=True)
        names = [str(name) if name is not None else "" for name in next(lines, ())]
        rows = [
            {name: _cell(value) for name, value in zip(names, line, strict=False) if name and value is not None}
            for line in lines
        ]
    except Exception as error:  # zipfile and openpyxl have errors of their own without a common class
        raise InputError(f"{path} cannot be read as an Excel file ({type(error).__name__}).") from error
    rows = [row for row in rows if row]
    if not rows:
        raise InputError(f"{path} holds no row: a line of names and lines of answers are expected.")
    return rows


def _cell(value: Any) -> Any:
    """Text, numbers and truth values as they are; dates and whatever else as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) else str(value)
