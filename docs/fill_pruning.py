"""Puts the figures of benchmarks/results/pruning_cost_*.json into docs/pruning.md.

python docs/fill_pruning.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "pruning.md"
RESULTS = HERE.parent / "benchmarks" / "results"
BEGIN, END = "<!-- table {} -->", "<!-- end -->"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for path in sorted(RESULTS.glob("pruning_cost_*.json")):
        name = path.stem.removeprefix("pruning_cost_")
        begin = BEGIN.format(name)
        if begin not in page:
            continue
        before, _, rest = page.partition(begin)
        page = before + begin + "\n" + table(json.loads(path.read_text(encoding="utf-8"))) + rest[rest.index(END) :]
    PAGE.write_text(page, encoding="utf-8")


def table(document: dict[str, Any]) -> str:
    """The table of one run, and a line that says how it was made."""
    settings, plain = document["settings"], document["plain"]
    lines = [
        "| | first token | theory | later tokens | theory | cache | theory | first token, 32 layers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for spec, row in document["methods"].items():
        cells = [f"{row[part][kind]:.3f}" for part in ("first", "later", "cache") for kind in ("share", "theory")]
        lines.append(f"| `{spec}` | {' | '.join(cells)} | {row['first']['expected_32']:.3f} |")
    worst = {part: f"{value:.2f}" for part, value in document["worst_over_theory"].items()}
    lines += [
        "",
        f"{document['positions']:,} positions, {document['image_positions']:,} of image; {settings['layers']} layers "
        f"of {settings['hidden_size']:,}, {settings['tower_layers']} of the tower, {settings['dtype']}, "
        f"{document['threads']} thread, {settings['rounds']} round(s) behind a warm-up; {document['machine']}, "
        f"{document['date']}. Plain: {plain['first']:.2f} processor seconds to the first token, {plain['later']:.3f} "
        "for each later one. Worst over theory: "
        f"first {worst['first']}, later {worst['later']}, cache {worst['cache']}." + _another(document),
        "",
    ]
    return "\n".join(lines)


def _another(document: dict[str, Any]) -> str:
    """Which rows are of a later run, measured beside a plain answer of its own."""
    other = document.get("of_another_run")
    if other is None:
        return ""
    rows = ", ".join(f"`{spec}`" for spec in other["methods"])
    return (
        f" Of a later run ({other['rounds']} rounds, other work on the machine: load {other['load']:g}), beside its "
        f"own plain answer of {other['plain']['first']:.2f} and {other['plain']['later']:.3f} seconds: {rows}."
    )


if __name__ == "__main__":
    main()
