"""`calibrate` documents as tables: a table a truth, instruments in its rows; and what methods mend and break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.results.table import Section, Table
from sightline.text import number

CAVEAT = (
    "These are small models: an instrument that fails here has failed on a case that is known; one that passes has "
    "passed on a small case, and may still fail on a large model."
)

TITLES = {
    "reliance": "Which model relies on its image? Rank of mean readings over models",
    "follows": "Which answers follow the picture?",
    "right": "Which answers are right?",
    "named": "Which objects that a caption names are there?",
    "seen": "Does the map stay in the half that is seen?",
    "place": "Does the map show the object that decides the answer?",
    "sinks": "Which tokens are sinks?",
    "heads": "Which heads look for the sinks?",
    "dims": "Which are the sink dimensions?",
}
"""By the first word of a truth's name."""


def sections(document: Mapping[str, Any]) -> list[Section]:
    """A table for each question, and one for methods."""
    found: list[Section] = []
    for kind, title in TITLES.items():
        rows = [row for row in document["instruments"] if row["truth"].split()[0] == kind]
        if rows:
            found.append(Table(title, *instrument_table(rows)))
    if document["methods"]:
        found.append(Table("What methods mend and break", *method_table(document["methods"])))
    if document["failed"]:
        found.append(f"{document['failed']} cases failed, see `error` in samples.jsonl.")
    found.append(CAVEAT)
    return found


def instrument_table(rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows, the best of each model first; controls are marked."""
    columns = ("instrument", "model", rows[0]["metric"], "95% interval", "n", "reads, if so", "if not", "passes")
    is_dial = rows[0]["truth"] == "reliance"
    if is_dial:
        columns = (*columns[:5], "reads on the most reliant", "the least", "passes")
    order = {model: place for place, model in enumerate(dict.fromkeys(row["model"] for row in rows))}
    ranked = sorted(rows, key=lambda row: (order[row["model"]], -row["value"]))
    return columns, [
        (
            row["instrument"] + (" (control)" if row["is_control"] else ""),
            row["model"],
            number(row["value"]),
            _interval(row["ci95"]),
            str(row["n"]),
            *_says(row, is_dial),
            number(row["passes"], 1),
        )
        for row in ranked
    ]


def method_table(methods: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows, model by model."""
    columns = (
        "method",
        "model",
        "n",
        "right before",
        "after",
        "mended",
        "broken",
        "points",
        "95% interval",
        "p (Holm)",
    )
    return columns, [
        (
            each["method"] + (" (control)" if each["is_control"] else ""),
            each["model"],
            str(each["n"]),
            number(each["before"]),
            number(each["after"]),
            str(each["mended"]),
            str(each["broken"]),
            f"{each['points']:+.1f}",
            _interval(each["ci95"], 1),
            number(each["p_value"], 3),
        )
        for each in methods
    ]


def _says(row: Mapping[str, Any], is_dial: bool) -> tuple[str, str]:
    if not is_dial:
        return _short(row["says"].get("1")), _short(row["says"].get("0"))
    truths = row["truths"]
    return _short(row["says"].get(max(truths, key=truths.get))), _short(row["says"].get(min(truths, key=truths.get)))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _interval(ci95: Sequence[float] | None, digits: int = 2) -> str:
    return "-" if ci95 is None else f"{ci95[0]:.{digits}f} to {ci95[1]:.{digits}f}"
