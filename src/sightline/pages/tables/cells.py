"""Numbers, intervals and names as the cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Columns and rows."""


def figure(value: float | None, is_signed: bool = False) -> str:
    """A score for a table: shares with three digits, larger numbers with one."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    sign = "+" if is_signed else ""
    return f"{value:{sign}.3f}" if abs(value) <= 2 else f"{value:{sign}.1f}"


def bounds_text(bounds: Sequence[float] | None, is_signed: bool = False) -> str:
    return "-" if bounds is None else f"{figure(bounds[0], is_signed)} to {figure(bounds[1], is_signed)}"


def with_bounds(value: float | None, bounds: Sequence[float] | None) -> str:
    return figure(value) if bounds is None else f"{figure(value)} ({bounds_text(bounds)})"


def spaced(name: str) -> str:
    return name.replace("_", " ")
