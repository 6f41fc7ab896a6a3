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
    notes = [[*run.notes, *found] for run, (_, found) in zip(runs, by_run, strict=True)]
    document = {
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
    return document | {"finding": finding(document)}


def _about(run: RunFolder, notes: Sequence[str]) -> dict[str, Any]:
    failed = sum(record.error is not None for record in run.records)
    return {
        "name": run.name,
        "command": run.command,
        "samples": len({record.id for record in run.records}),
        "failed": failed,
        "notes": [without_places(note) for note in notes],
    }
