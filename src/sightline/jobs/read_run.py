"""A run folder read back as the result that wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from sightline.benchmarks.answer_files import run_folders
from sightline.errors import InputError
from sightline.files.json import read_object
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.calibration import Calibration
from sightline.jobs.compare import PairedScores
from sightline.jobs.evaluation import Evaluation, evaluation_of
from sightline.jobs.evaluation_plan import EvaluateSettings, EvaluationPlan
from sightline.jobs.impacts import Impacts, read_impacts
from sightline.jobs.measurement import Measurement, measured_of
from sightline.jobs.methods import MethodSpec
from sightline.jobs.models import ModelSource
from sightline.jobs.reproduce import ReproductionResult
from sightline.jobs.training import Training, read_training_run
from sightline.probes.sinks import Sinks, read_sinks
from sightline.runs.description import RUN_FILE, described
from sightline.runs.folder import SUMMARY_FILE
from sightline.runs.records import Record, Records, read_records
from sightline.training.folder import TRAINING_FILE

AnyRun: TypeAlias = (
    Measurement | Evaluation | Sinks | Impacts | ReproductionResult | Training | PairedScores | Calibration
)


@dataclass(frozen=True)
class Folder:
    """One run folder: its command, its settings, and what run.json says beside them."""

    place: Path
    command: str
    settings: Mapping[str, Any]
    info: Mapping[str, Any]

    def records(self) -> Records:
        """Its records, each sample once."""
        kept = Records(self.settings)
        kept.info = dict(self.info)
        kept.folder = self.place
        kept.records = {record.key: record for record in read_records(self.place)}
        return kept

    def failed(self) -> tuple[Record, ...]:
        """The records of what could not be done."""
        return tuple(record for record in self.records().records.values() if record.error is not None)

    def summary(self) -> dict[str, Any]:
        """The command's document; InputError where the run is not finished or the file is damaged."""
        found = read_object(self.place / SUMMARY_FILE)
        if found is None:
            raise InputError(f"{self.place} is not finished, or damaged: give the command that made it again.")
        return found


def read_run(folder: str | Path) -> AnyRun:
    """What a command left in a folder, as the result that the same job returns in Python; no model is loaded.

    The benchmark's items of an evaluation are read again from where they were, and its answers scored again.

    Raises:
        InputError: where the folder is no run folder, holds a run of another command, or nothing that ended well.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"There is no folder {place}.")
    if (place / TRAINING_FILE).is_file():
        return read_training_run(place)
    places = [place] if (place / RUN_FILE).is_file() else run_folders(place)
    if not places:
        raise InputError(f"{place} is no run folder: it has no {RUN_FILE}.")
    folders = [_read(each) for each in places]
    first = folders[0]
    if "reproduction" in first.settings:
        return ReproductionResult(first.summary(), first.failed(), place)
    if first.command not in READERS:
        raise InputError(f"{place} holds a run of {first.command}: `sl.read_run` reads {', '.join(READERS)}, train.")
    return READERS[first.command](place, folders)


def _read(folder: Path) -> Folder:
    about = described(folder)
    return Folder(folder, about["command"], about["settings"], about["info"])


def _measurement(place: Path, folders: Sequence[Folder]) -> Measurement:
    parts = [_query_set(each) for each in folders]
    return parts[0] if len(parts) == 1 else Measurement.together(parts, place)


def _query_set(folder: Folder) -> Measurement:
    run, info = folder.records(), folder.info
    by_pair: dict[tuple[str, str], list[Record]] = {}
    for record in run.records.values():
        by_pair.setdefault((record.model, record.method), []).append(record)
    models = [model for model in folder.settings.get("models", ()) if any(of[0] == model for of in by_pair)]
    methods = sorted({method for _, method in by_pair}, key=lambda method: method != "none")
    measured = tuple(
        replace(
            measured_of(by_pair[model, method], str(folder.settings.get("queries")), info.get("stages") or "paired"),
            batch_size=run.batch_size(model),
        )
        for model in models
        for method in methods
        if (model, method) in by_pair
    )
    if not measured:
        raise InputError(f"{folder.place} holds no measured sample.")
    by = info.get("by")
    return Measurement(measured, len(methods), info.get("published"), by, folder.failed(), folder.place, (run,))


def _evaluation(place: Path, folders: Sequence[Folder]) -> Evaluation:
    info, settings = folders[0].info, folders[0].settings
    seed = int(settings.get("seed") or 0)
    items = []
    for folder in folders:
        name, path = folder.settings["bench"], folder.info.get("path")
        given = name if path is None else f"{name}:{path}"
        fields = folder.info.get("fields") or {}
        items.append(find_items(given, seed=seed, limit=folder.info.get("limit"), **fields))
    specs = tuple(MethodSpec(name, name) for name in info.get("methods", ()))
    models = tuple(ModelSource(name) for name in info.get("models", ()))
    chosen = EvaluateSettings(seed=seed, new_tokens=settings.get("new_tokens"))
    plan = EvaluationPlan(models, tuple(items), specs, chosen)
    return evaluation_of(plan, [folder.records() for folder in folders], place)


READERS: dict[str, Callable[[Path, Sequence[Folder]], AnyRun]] = {
    "measure": _measurement,
    "eval": _evaluation,
    "sinks": lambda place, folders: read_sinks(place),
    "impact": lambda place, folders: read_impacts(place, folders[0].summary(), folders[0].failed()),
    "calibrate": lambda place, folders: Calibration.from_dict(folders[0].summary(), folders[0].failed(), place),
    "compare": lambda place, folders: PairedScores(folders[0].summary(), tuple(folders[0].info.get("notes", ()))),
}
"""By the command that run.json names."""
