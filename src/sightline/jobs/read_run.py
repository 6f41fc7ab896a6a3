"""A run folder read back as the result that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.evaluation import Evaluation, evaluation_of
from sightline.jobs.measured import Measured
from sightline.jobs.measurement import Measurement, measured_of
from sightline.runs.description import RUN_FILE, described
from sightline.runs.records import Record, Records, read_records

if TYPE_CHECKING:
    from sightline.probes.dominance.stages import Scheme
    from sightline.probes.sinks import Sinks


def read_run(folder: str | Path) -> Measurement | Evaluation | Sinks:
    """What `measure`, `eval` or `sinks` left in a folder, on the command line or from Python.

    The benchmark's items of an evaluation are read again from where they were, and its answers scored again; no model
    is loaded.

    Raises:
        InputError: where the folder is no run folder, holds a run of another command, or nothing that ended well.
    """
    from sightline.benchmarks.answer_files import run_folders

    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"There is no folder {place}.")
    folders = [place] if (place / RUN_FILE).is_file() else run_folders(place)
    if not folders:
        raise InputError(f"{place} is no run folder: it has no {RUN_FILE}.")
    abouts = [described(each) for each in folders]
    command = abouts[0]["command"]
    if command == "measure":
        return _measurement(folders[0], abouts[0])
    if command == "eval":
        return _evaluation(place, folders, abouts)
    if command == "sinks":
        from sightline.probes.sinks import read_sinks

        return read_sinks(place)
    raise InputError(f"{place} holds a run of {command}, which is read by `sightline report` alone.")


def _records(folder: Path, settings: Mapping[str, Any]) -> Records:
    kept = Records(settings)
    kept.folder = folder
    kept.records = {record.key: record for record in read_records(folder)}
    return kept


def _measurement(folder: Path, about: Mapping[str, Any]) -> Measurement:
    run = _records(folder, about["settings"])
    by_pair: dict[tuple[str, str], list[Record]] = {}
    for record in run.records.values():
        by_pair.setdefault((record.model, record.method), []).append(record)
    models = [model for model in about["settings"].get("models", ()) if any(of[0] == model for of in by_pair)]
    methods = sorted({method for _, method in by_pair}, key=lambda method: method != "none")
    queries = str(about["settings"].get("queries"))
    stages: Scheme = about["info"].get("stages") or "paired"
    measured: list[Measured] = [
        measured_of(by_pair[model, method], queries, stages)
        for model in models
        for method in methods
        if (model, method) in by_pair
    ]
    if not measured:
        raise InputError(f"{folder} holds no measured sample.")
    failed = tuple(record for record in run.records.values() if record.error is not None)
    return Measurement(tuple(measured), len(methods), about["info"].get("published"), failed, folder, run)


def _evaluation(place: Path, folders: list[Path], abouts: list[dict[str, Any]]) -> Evaluation:
    from sightline.jobs.benchmark_items import find_items
    from sightline.jobs.evaluation_plan import EvaluateSettings, EvaluationPlan
    from sightline.jobs.methods import MethodSpec
    from sightline.jobs.models import ModelSource

    info, settings = abouts[0]["info"], abouts[0]["settings"]
    seed = int(settings.get("seed") or 0)
    items, runs = [], []
    for folder, about in zip(folders, abouts, strict=True):
        name, path = about["settings"]["bench"], about["info"].get("path")
        given = name if path is None else f"{name}:{path}"
        items.append(
            find_items(given, seed=seed, limit=about["info"].get("limit"), **about["info"].get("fields") or {})
        )
        runs.append(_records(folder, about["settings"]))
    specs = tuple(MethodSpec(name, name) for name in info.get("methods", ()))
    models = tuple(ModelSource(name) for name in info.get("models", ()))
    plan = EvaluationPlan(
        models, tuple(items), specs, EvaluateSettings(seed=seed, new_tokens=settings.get("new_tokens"))
    )
    return evaluation_of(plan, runs, place)
