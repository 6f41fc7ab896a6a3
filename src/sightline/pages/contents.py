"""What a page shows, as one JSON document: the finding, aggregates of each run, and samples with pictures and maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from sightline.pages import aggregates
from sightline.pages.finding import finding
from sightline.pages.naming import settings_table, without_places
from sightline.pages.reading import RunFolder
from sightline.pages.samples import samples_of, show

SAMPLES = 400
"""Samples that a page shows unless set otherwise, evenly over the runs."""


def contents(runs: Sequence[RunFolder], samples: int = SAMPLES) -> dict[str, Any]:
    """The document of a page. Samples beyond `samples` are left out, which "left" counts."""
    by_run = [samples_of(run, number) for number, run in enumerate(runs)]
    whole = sum(len(found) for found, _ in by_run)
    # In turns, so that no run crowds the others out; then in the order of the runs again.
    turns = [entry for entry in chain.from_iterable(zip_longest(*(found for found, _ in by_run))) if entry]
    chosen = sorted(turns[:samples], key=lambda entry: int(entry["run"]))
    shown, first = show(chosen, runs)
    notes = [
        [*run.notes, *found, *_left_out(shown, number)]
        for number, (run, (_, found)) in enumerate(zip(runs, by_run, strict=True))
    ]
    document: dict[str, Any] = {
        "runs": [_about(run, found) for run, found in zip(runs, notes, strict=True)],
        "settings": settings_table(runs),
        "dominance": aggregates.dominances(runs),
        "sinks": [
            aggregates.sinks(run, number) for number, run in enumerate(runs) if run.command == "sinks" and run.summary
        ],
        "attended": aggregates.attended(runs),
        "impact": aggregates.impacts(runs),
        "evaluations": aggregates.evaluations(runs),
        "training": aggregates.training(runs),
        "samples": shown,
        "first": first,
        "left": whole - len(chosen),
    }
    document = without_places(document)
    return document | {"finding": finding(document)}


def _left_out(shown: Sequence[dict[str, Any]], number: int) -> list[str]:
    """The note of a run whose folder holds other things in the place of small pictures."""
    count = sum(entry["run"] == number and entry.pop("foreign") for entry in shown if "foreign" in entry)
    return [f"Pictures left out, being no copies of the kind that commands keep: {count}."] if count else []


def _about(run: RunFolder, notes: Sequence[str]) -> dict[str, Any]:
    failed = sum(record.error is not None for record in run.records)
    return {
        "name": run.name,
        "command": run.command,
        "samples": len({record.id for record in run.records}),
        "failed": failed,
        "notes": list(notes),
    }
