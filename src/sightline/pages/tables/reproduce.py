"""What `reproduce` prints: ours beside the published figures, and what keeps them from being the same experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.cli.output import Output
from sightline.pages.tables.evaluate import figure
from sightline.text import mean_std, number


def show(output: Output, document: Mapping[str, Any]) -> None:
    """Tables and sentences; left out where JSON is asked for."""
    output.text(f"{document['title']} ({document['published_in']})")
    if "models" in document:
        from sightline.pages.tables.measure import show_measured

        show_measured(output, document["models"])
    if "methods" in document:
        from sightline.pages.tables.evaluate import show as show_scores

        show_scores(output, [dict(document)])
    if "flows" in document:
        _show_flows(output, document)
    _show_beside(output, document["beside"])
    for name, title in (("claims", "Published in words"), ("differs", "Not as in the source, or not known of it")):
        if document[name]:
            output.text(f"{title}:")
            for sentence in document[name]:
                output.text(f"  - {sentence}")
    output.text(verdict(document))


def verdict(document: Mapping[str, Any]) -> str:
    """What this run may be taken for."""
    if document["deviations"]:
        told = " ".join(document["deviations"])
        return f"Nothing is reproduced or refuted by this run. {told}"
    return (
        "Model and data are, by their names, the published ones. Beside the differences above, what the table shows "
        "is this run's own."
    )


def _show_beside(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        output.text("No published figure could be sourced, so none stands beside.")
        return
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
    output.table(
        "Beside the published figures", ("method", "figure", "ours", "published", "difference", "status"), cells
    )
    for source in dict.fromkeys((row["method"], row["source"]) for row in rows):
        output.text(f"Published {source[0]}: {source[1]}.")
    for method, note in dict.fromkeys((row["method"], row["note"]) for row in rows if row["note"]):
        output.text(f"Note on {method}: {note}.")
    lints = ((row["method"], row["figure"].split(" ")[0], row["lint"]) for row in rows if row.get("lint"))
    for method, stage, lint in dict.fromkeys(lints):
        output.text(f"The published {stage} row of {method} {lint}.")


def _ours(row: Mapping[str, Any]) -> str:
    return mean_std(row["ours"], row["ours_std"]) if "ours_std" in row else figure(row["ours"])


def _value(row: Mapping[str, Any], value: float) -> str:
    return number(value) if "ours_std" in row else figure(value)


def _show_flows(output: Output, document: Mapping[str, Any]) -> None:
    output.text(
        f"{document['model']}: {document['right']} of {document['asked']} questions answered rightly; the change of "
        f"the answer's probability in per cent, windows of {document['window']} layers."
    )
    flows = document["flows"]
    layers = range(max((len(told["change"]) for told in flows.values()), default=0))
    rows = [
        (
            str(layer),
            *(mean_std(told["change"][layer], told["change_std"][layer], 1) for told in flows.values()),
        )
        for layer in layers
    ]
    if rows:
        output.table("Cut around layer", ("layer", *flows), rows)
    for name, told in flows.items():
        if told["largest"] is not None:
            output.text(f"{name}: lowest around layer {told['largest']['layer']} ({told['largest']['change']:.1f}%).")
