"""What `reproduce` prints: ours beside the published figures, and what keeps them from being the same experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.pages.tables.cells import figure
from sightline.pages.tables.evaluate import sections as score_sections
from sightline.pages.tables.measure import measured_sections
from sightline.results.table import Section, Table
from sightline.text import mean_std, number


def sections(document: Mapping[str, Any]) -> list[Section]:
    """Ours beside the published figures, and what keeps them from being the same experiment."""
    found: list[Section] = [f"{document['title']} ({document['published_in']})"]
    if "models" in document:
        found += measured_sections(document["models"])
    if "methods" in document:
        found += score_sections([document])
    if "flows" in document:
        found += _flows(document)
    found += _beside(document["beside"])
    for name, title in (("claims", "Published in words"), ("differs", "Not as in the source, or not known of it")):
        if document[name]:
            found += [f"{title}:", *(f"  - {sentence}" for sentence in document[name])]
    return [*found, verdict(document)]


def verdict(document: Mapping[str, Any]) -> str:
    """What this run may be taken for."""
    if document["deviations"]:
        entry = " ".join(document["deviations"])
        return f"Nothing is reproduced or refuted by this run. {entry}"
    return (
        "Model and data are, by their names, the published ones. Beside the differences above, what the table shows "
        "is this run's own."
    )


def _beside(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    if not rows:
        return ["No published figure could be sourced, so none stands beside."]
    cells = [
        (
            row["method"],
            row["figure"],
            _ours(row),
            _value(row, row["published"]),
            "-"
            if row["difference"] is None
            else f"{'+' if row['difference'] >= 0 else ''}{_value(row, row['difference'])}",
            row["status"],
        )
        for row in rows
    ]
    columns = ("method", "figure", "ours", "published", "difference", "status")
    sources = dict.fromkeys((row["method"], row["source"]) for row in rows)
    notes = dict.fromkeys((row["method"], row["note"]) for row in rows if row["note"])
    lints = ((row["method"], row["figure"].split(" ")[0], row["lint"]) for row in rows if row.get("lint"))
    return [
        Table("Beside the published figures", columns, cells),
        *(f"Published {method}: {source}." for method, source in sources),
        *(f"Note on {method}: {note}." for method, note in notes),
        *(f"The published {stage} row of {method} {lint}." for method, stage, lint in dict.fromkeys(lints)),
    ]


def _ours(row: Mapping[str, Any]) -> str:
    return mean_std(row["ours"], row["ours_std"]) if "ours_std" in row else figure(row["ours"])


def _value(row: Mapping[str, Any], value: float) -> str:
    return number(value) if "ours_std" in row else figure(value)


def _flows(document: Mapping[str, Any]) -> list[Section]:
    found: list[Section] = [
        f"{document['model']}: {document['right']} of {document['asked']} questions answered rightly; the change of "
        f"the answer's probability in per cent, windows of {document['window']} layers."
    ]
    flows = document["flows"]
    layers = range(max((len(entry["change"]) for entry in flows.values()), default=0))
    rows = [
        (
            str(layer),
            *(mean_std(entry["change"][layer], entry["change_std"][layer], 1) for entry in flows.values()),
        )
        for layer in layers
    ]
    if rows:
        found.append(Table("Cut around layer", ("layer", *flows), rows))
    for name, entry in flows.items():
        if entry["largest"] is not None:
            found.append(
                f"{name}: lowest around layer {entry['largest']['layer']} ({entry['largest']['change']:.1f}%)."
            )
    return found
