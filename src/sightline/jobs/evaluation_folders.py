"""Where the runs of an evaluation are kept: a folder each, with their summaries and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightline.benchmarks.answer_files import run_folders
from sightline.errors import InputError
from sightline.files.json import json_text, plain, write_atomically
from sightline.jobs.benchmark_items import BenchmarkItems
from sightline.jobs.evaluation import Evaluation
from sightline.jobs.evaluation_plan import EvaluationPlan
from sightline.pages.tables.evaluate import write_tables
from sightline.runs.description import RUN_FILE, described, difference
from sightline.runs.folder import SUMMARY_FILE, Run
from sightline.runs.records import Records


def keep(found: Evaluation, runs: Sequence[Records], out: Path) -> None:
    """The summary and tables of each run, and of several those of all."""
    for run in runs:
        if isinstance(run, Run):
            own = found.in_folder(run.folder)
            run.finish(own.to_dict())
            write_tables(run.folder, [each.document for each in own.scores])
    if len(runs) > 1:
        write_atomically(out / SUMMARY_FILE, json_text(found.to_dict(), indent=2))
        write_tables(out, [each.document for each in found.scores])


def run_places(plan: EvaluationPlan, out: Path | None) -> list[Path | None]:
    """Each benchmark's run folder: the folder itself for one, else a folder below it."""
    if out is None:
        return [None] * len(plan.benches)
    if len(plan.benches) == 1:
        if below := run_folders(out):
            raise InputError(f"{out} holds run folders: give --out {below[0]} to continue that, or another folder.")
        return [out]
    if (out / RUN_FILE).exists():
        raise InputError(f"{out} is the run folder of one benchmark: give another --out for several.")
    names = [items.name for items in plan.benches]
    counts = [names[:place].count(name) for place, name in enumerate(names)]
    places: list[Path | None] = [
        out / (f"{name}-{count + 1}" if count else name) for name, count in zip(names, counts, strict=True)
    ]
    for items, place in zip(plan.benches, places, strict=True):
        if place is not None and names.count(items.name) > 1 and (place / RUN_FILE).exists():
            _require_same_options(items, place)
    return places


def _require_same_options(items: BenchmarkItems, place: Path) -> None:
    """InputError where the folder is of another one of several benchmarks of this name."""
    known = described(place)["info"]
    for name, value in plain({"path": items.path, "fields": items.fields}).items():
        if known.get(name) != value:
            raise difference(place, name, known.get(name), value)
