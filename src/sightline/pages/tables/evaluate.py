"""`eval` documents as tables, on screen and in files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.files.json import write_atomically
from sightline.pages.tables.beside import blind_table, frontier_table
from sightline.pages.tables.cells import Cells, bounds_text, figure, spaced, with_bounds
from sightline.pages.tables.gains import cost_table, tilt_table
from sightline.results.latex import latex_text
from sightline.results.table import Section, Table

PARTS = ("splits", "subtasks")
"""Fields of a score document with a document a part."""

BESIDE = ("n", "failed", "seconds_per_item", "prefill_seconds_per_item", "cache_bytes_per_item", "unparsed",
          "times_the_first")  # fmt: skip
"""Numbers of a method's document that have a column of their own."""

RARE = ("missing", "incomplete", "mixed_pairs", "unknown", "at_limit")
"""Counts and shares that are nearly always 0."""


def sections(documents: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Of each document a table of scores, of parts where there are several, and of differences."""
    found: list[Section] = []
    for document in documents:
        found.append(_heading(document))
        found.append(Table("Scores (95% interval)", *score_table(document)))
        columns, rows = part_table(document)
        if rows:
            found.append(Table(spaced(_part_figure(document) or ""), columns, rows))
        if document.get("blind"):
            found.append(Table("What the image earns", *blind_table(document)))
        if document.get("frontier"):
            found.append(Table("Beside shorter answers: CHAIRi at the same recall", *frontier_table(document)))
        if document.get("by"):
            found.append(by_table(document))
        columns, rows = paired_table(document)
        if rows:
            found.append(Table(f"Against {document['paired'][0]['a']}", columns, rows))
        if len(rows := cost_table(document)[1]) > 1:
            found.append(Table("Gain against cost", cost_table(document)[0], rows))
        columns, rows = tilt_table(document)
        if rows:
            found.append(Table("Of the gain in accuracy, points that go with the yes ratio", columns, rows))
    return found


def _heading(document: Mapping[str, Any]) -> str:
    which = "; smaller is better" if document["better"] == "smaller" else ""
    return f"{document['model']} on {document['bench']}: {_share(document)}, {document['parser']} parser{which}"


def _share(document: Mapping[str, Any]) -> str:
    number, total = document["items"]["asked"], document["items"]["of"]
    return f"{number} items" if number >= total else f"{number} of {total} items"


def score_table(document: Mapping[str, Any]) -> Cells:
    """A method a row, the headline first; intervals, where there are some, behind their figures."""
    methods = document["methods"]
    first = next(iter(methods.values()))
    known = [name for name, value in first.items() if (value is None or _is_number(value)) and not _is_interval(name)]
    shown = [name for name in known if name not in BESIDE and _is_worth(name, methods.values())]
    names = sorted(shown, key=lambda name: (name != document["headline"], f"{name}_ci95" not in first))
    columns = ("method", *map(spaced, names), "answered", "unparsed", "failed", "s/item")
    rows = [
        (
            label,
            *(with_bounds(figures.get(name), figures.get(f"{name}_ci95")) for name in names),
            str(figures["n"]),
            str(figures.get("unparsed", "-")),
            str(figures["failed"]),
            figure(figures["seconds_per_item"]),
        )
        for label, figures in methods.items()
    ]
    return columns, rows


def part_table(document: Mapping[str, Any]) -> Cells:
    """A split or subtask a row, a method a column; no row where there is but one part."""
    name = _part_figure(document)
    parts = {label: _parts(figures) for label, figures in document["methods"].items()}
    known = list(dict.fromkeys(part for of in parts.values() for part in of))
    if name is None or len(known) < 2:
        return (), []
    rows = [(part, *(figure(of.get(part, {}).get(name)) for of in parts.values())) for part in known]
    return ("", *parts), rows


def by_table(document: Mapping[str, Any]) -> Table:
    """The headline by a field of the items, a value a row, a method a column."""
    name, methods = document["headline"], document["by"]["methods"]
    rows = [
        (value, str(of["n"]), *(_figure_of(each[value], name) for each in methods.values()))
        for value, of in next(iter(methods.values())).items()
    ]
    return Table(f"{spaced(name)} by {document['by']['field']}", (document["by"]["field"], "n", *methods), rows)


def _figure_of(document: Mapping[str, Any], name: str) -> str:
    return with_bounds(document.get(name), document.get(f"{name}_ci95"))


def _parts(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((figures[name] for name in PARTS if figures.get(name)), {})


def _part_figure(document: Mapping[str, Any]) -> str | None:
    """The headline where parts have it, else what they call their score."""
    first = [part for figures in document["methods"].values() for part in _parts(figures).values()]
    return next((name for name in (document["headline"], "score", "accuracy") if first and name in first[0]), None)


def paired_table(document: Mapping[str, Any]) -> Cells:
    """A row a compared method and figure; test and flips beside the headline."""
    columns = (
        "method",
        "figure",
        "delta",
        "95% interval",
        "sign-flip p",
        "right before only",
        "right now only",
        "items",
    )
    rows: list[tuple[str, ...]] = []
    for pair in document["paired"]:
        for name, figures in (pair["figures"] or {document["headline"]: pair}).items():
            is_main = name == document["headline"]
            beside = (_p_value(pair), *map(str, pair["flips"]), _counts(pair))
            change = (figure(figures["delta"], is_signed=True), bounds_text(figures["ci95"], is_signed=True))
            rows.append((pair["b"] if is_main else "", spaced(name), *change, *(beside if is_main else [""] * 4)))
    return columns, rows


def models_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """A row a benchmark, method and pair of models."""
    columns = ("bench", "a", "b", "delta", "95% interval", "sign-flip p", "right in a only", "right in b only", "items")
    rows = [
        (
            pair["bench"],
            pair["a"],
            pair["b"],
            figure(pair["delta"], is_signed=True),
            bounds_text(pair["ci95"], is_signed=True),
            _p_value(pair),
            *map(str, pair["flips"]),
            _counts(pair),
        )
        for pair in entries
    ]
    return Table("Models against each other", columns, rows)


def _counts(pair: Mapping[str, Any]) -> str:
    """Items, of how many independent units where these are fewer, and how many are left out."""
    units, missing = pair.get("units", pair["n"]), pair["missing"]
    more = [f"{units} independent"] * (units < pair["n"]) + [f"{missing} left out"] * bool(missing)
    return f"{pair['n']} ({', '.join(more)})" if more else str(pair["n"])


def _p_value(pair: Mapping[str, Any]) -> str:
    """With Holm's adjustment where there are several comparisons; none of a difference that there is none of."""
    if pair["delta"] is None:
        return "-"
    adjusted = pair.get("p_holm", pair["p_value"])
    plain = f"{pair['p_value']:.3g}"
    return plain if adjusted == pair["p_value"] else f"{plain} (Holm {adjusted:.3g})"


def write_tables(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """table.csv, with plain numbers, a row a model, benchmark and method; table.md, as on the screen, and table.tex."""
    lines = []
    for document in found:
        first = document["paired"][0]["a"] if document["paired"] else None
        pairs = {pair["b"]: pair for pair in document["paired"]}
        for label, figures in document["methods"].items():
            numbers: dict[str, Any] = {}
            for name, value in figures.items():
                if _is_interval(name):
                    low, high = value or (None, None)
                    numbers |= {name.replace("_ci95", "_low"): low, name.replace("_ci95", "_high"): high}
                elif value is None or _is_number(value):
                    numbers[name] = value
            pair = pairs.get(label, {})
            below, above = pair.get("ci95") or (None, None)
            numbers |= {"against": first if pair else None, "delta": pair.get("delta")}
            numbers |= {"delta_low": below, "delta_high": above, "p_value": pair.get("p_value")}
            lines.append({"model": document["model"], "bench": document["bench"], "method": label} | numbers)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(folder / "table.csv", text.getvalue().rstrip("\n"))
    write_atomically(folder / "table.md", "\n\n".join(_markdown(document) for document in found))
    write_atomically(folder / "table.tex", latex_text(sections(found)))


def _markdown(document: Mapping[str, Any]) -> str:
    title = f"## {_heading(document)}"
    tables = [score_table(document), part_table(document), paired_table(document)]
    return "\n\n".join([title, *(_markdown_table(columns, rows) for columns, rows in tables if rows)])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (columns, ruler, *rows)
    )


def _is_worth(name: str, methods: Iterable[Mapping[str, Any]]) -> bool:
    """A count of something wrong has its column only where there is some."""
    return name not in RARE or any(figures.get(name) for figures in methods)


def _is_interval(name: str) -> bool:
    return name.endswith("_ci95")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
