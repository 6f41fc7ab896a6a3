"""What stands beside the scores: what the image earns, what shorter answers would give, what a run can find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.pages.tables.cells import Cells, bounds_text, figure, spaced


def power_table(plans: Sequence[Mapping[str, Any]]) -> Cells:
    """A row a benchmark and share of differing answers."""
    columns = ("benchmark", "items", "independent", "answers that differ", "needed", "smallest found here")
    rows: list[tuple[str, ...]] = [
        (
            plan["bench"],
            str(plan["items"]),
            str(plan["units"]),
            f"{float(share):.0%}",
            "-" if count is None else str(count),
            figure(plan["smallest"][share]),
        )
        for plan in plans
        for share, count in plan["needed"].items()
    ]
    return columns, rows


def blind_table(document: Mapping[str, Any]) -> Cells:
    """A row a view: the headline under it, and how much of the first method's the image earns."""
    columns = ("asked with", spaced(document["headline"]), "the image earns", "95% interval", "sign-flip p")
    rows: list[tuple[str, ...]] = [
        (
            view,
            figure(of["score"]),
            figure(of["earned"], is_signed=True),
            bounds_text(of["ci95"], is_signed=True),
            f"{of['p_value']:.3g}",
        )
        for view, of in document["blind"].items()
    ]
    return columns, rows


def frontier_table(document: Mapping[str, Any]) -> Cells:
    """A row a method: its recall and CHAIRi, and CHAIRi of the first method's captions cut to the same recall."""
    first = next(iter(document["methods"]))
    columns = ("method", "recall", "CHAIRi", f"{first}, shortened", "difference", "95% interval")
    rows: list[tuple[str, ...]] = [
        (
            label + (" (recall beyond the whole captions)" if of["is_beyond"] else ""),
            figure(of["recall"]),
            figure(of["chair_i"]),
            figure(of["shortened"]),
            figure(of["delta"], is_signed=True),
            bounds_text(of["ci95"], is_signed=True),
        )
        for label, of in document["frontier"]["methods"].items()
    ]
    return columns, rows
