"""Run folders as a report reads them: the settings, what was found, one record a sample."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import InputError, SightlineWarning
from sightline.files.json import parse_object, read_object
from sightline.pages.pictures import PICTURES_FILE
from sightline.runs.description import RUN_FILE, described
from sightline.runs.folder import SUMMARY_FILE
from sightline.runs.records import Record, read_records

TRAINING_FILE, LOG_FILE = "training.json", "log.jsonl"
"""What a folder of `train` is known by, and its losses, a line each."""

IMPACT_FILE = "impact.json"

UNFINISHED = 2000
"""Samples of a model and method, evenly taken, whose measurements stand for a run of `measure` that is not finished."""


class NothingYetError(InputError):
    """A run that was begun, and has nothing to show yet."""


@dataclass(frozen=True)
class RunFolder:
    """One run folder.

    Attributes:
        folder: where it stands.
        command: "measure", "sinks", "eval", "impact", "train", ...
        settings, info, versions: as run.json has them.
        started: when, as run.json has it.
        summary: the command's document; empty while the run is not finished.
        records: a record a sample, model and method, in order of these.
        log: a training's entries by step, as the trainer logs them.
        notes: a sentence for each thing that could not be read.
    """

    folder: Path
    command: str
    settings: Mapping[str, Any]
    info: Mapping[str, Any]
    versions: Mapping[str, str]
    started: str
    summary: Mapping[str, Any]
    records: tuple[Record, ...] = field(repr=False, default=())
    log: tuple[Mapping[str, Any], ...] = field(repr=False, default=())
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's last name."""
        return self.folder.resolve().name


def read_runs(folders: Iterable[str | Path]) -> list[RunFolder]:
    """The runs in these folders, in order; a folder of run folders stands for those in it, ordered by name.

    A run that has nothing to show yet is passed over with a warning, where another has.

    Raises:
        InputError: one sentence, for what is no folder, holds no run, or whose run.json cannot be read.
    """
    found: dict[Path, RunFolder] = {}
    empty: list[NothingYetError] = []
    places = [place for folder in map(Path, folders) for place in _places(folder)]
    for place in places:
        if place.resolve() not in found:
            try:
                found[place.resolve()] = read_run_folder(place)
            except NothingYetError as error:
                empty.append(error)
    if empty and not found:
        raise empty[0]
    for each in empty:
        warnings.warn(f"Passed over: {each}", SightlineWarning, stacklevel=3)
    return list(found.values())


def _places(folder: Path) -> list[Path]:
    if not folder.exists():
        raise InputError(f"The run folder {folder} does not exist: give one that a command wrote with --out.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give the run folder that it stands in.")
    names = (RUN_FILE, TRAINING_FILE)
    if any((folder / name).exists() for name in names):
        return [folder]
    inner = sorted({path.parent for name in names for path in folder.glob(f"*/{name}")})
    if inner:
        return inner
    if any(folder.glob("samples*.jsonl")) or (folder / SUMMARY_FILE).exists():
        raise InputError(f"{folder} has results but no {RUN_FILE}, which says of what: give a whole run folder.")
    raise InputError(f"{folder} is no run folder: there is no {RUN_FILE}, nor a folder with one; give one of --out.")


def read_run_folder(folder: Path) -> RunFolder:
    """One run folder; InputError where run.json is torn, or nothing was recorded yet."""
    if not (folder / RUN_FILE).exists():
        return _read_training(folder)
    about = described(folder)
    notes = []
    summary: Mapping[str, Any] = {}
    if (folder / SUMMARY_FILE).exists():
        read = read_object(folder / SUMMARY_FILE)
        is_whole = read is not None and _is_summary(read)
        summary = read if read is not None and is_whole else {}
        if not is_whole:
            notes.append(f"{SUMMARY_FILE} is damaged; what can be is taken from the samples.")
    records = sorted(read_records(folder), key=lambda record: record.key)
    if not summary and not records:
        raise NothingYetError(f"{folder} holds a run that has no sample yet: let it run first.")
    if not summary and not notes:
        notes.append(
            "This run is not finished; the figures are of the samples that are there." + _taken(about, records)
        )
    return RunFolder(
        folder=folder,
        command=about["command"],
        settings=about["settings"],
        info=about["info"],
        versions={name: str(value) for name, value in about["versions"].items()},
        started=about["started"],
        summary=summary,
        records=tuple(records),
        notes=tuple(notes),
    )


def _taken(about: Mapping[str, Any], records: Sequence[Record]) -> str:
    most = max(Counter(record.key[:2] for record in records).values(), default=0)
    if about["command"] != "measure" or most <= UNFINISHED:
        return ""
    return f" Of the {most:,} of a model and method, {UNFINISHED:,} evenly taken ones are put together."


def _is_summary(document: Any) -> bool:
    """Whether what a page takes from a document is of the kind that commands write."""
    if not isinstance(document, dict):
        return False
    given = {name: value for name, value in document.items() if value is not None}
    if any(not isinstance(given[name], kind) for name, kind in _SUMMARY.items() if name in given):
        return False
    within = [*given.get("models", ()), *given.get("evaluations", ()), *filter(None, [given.get("baseline")])]
    parts = [*given.get("paired", ()), *given.get("layers", ()), *given.get("methods", {}).values()]
    flipped = [each.get("flipped") or {} for each in given.get("paired", ()) if isinstance(each, dict)]
    return (
        all(map(_is_summary, within))
        and all(isinstance(each, dict) for each in (*parts, *flipped))
        and all(isinstance(names, list) for each in flipped for names in each.values())
    )


_SUMMARY: dict[str, type] = {
    "model": str, "bench": str, "parser": str, "headline": str, "models": list, "evaluations": list, "baseline": dict,
    "layers": list, "stages": dict, "tokens": dict, "methods": dict, "paired": list,
}  # fmt: skip


def _read_training(folder: Path) -> RunFolder:
    """A folder of `train`; InputError where its description is torn or nothing was logged yet."""
    about = read_object(folder / TRAINING_FILE)
    if about is None:
        raise InputError(f"{folder / TRAINING_FILE} cannot be read as a training's description: the folder is damaged.")
    try:
        lines = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    log = tuple(entry for entry in map(parse_object, lines) if entry is not None and "step" in entry)
    if not log:
        raise NothingYetError(f"{folder} holds a training that has logged nothing yet: let it run first.")
    shown = _mapping(about.get("about"))
    return RunFolder(folder, "train", _mapping(about.get("settings")), shown, {}, "", {}, log=log)


def impact_documents(folder: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, document) of each prompt of a run of `impact`, with its "images"; damaged ones are left out."""
    single = folder / IMPACT_FILE
    places = [single] if single.exists() else sorted(folder.glob(f"prompts/*/{IMPACT_FILE}"))
    found: list[tuple[str, Mapping[str, Any]]] = []
    for place in places:
        document = read_object(place)
        if document is not None:
            pictures = read_object(place.with_name(PICTURES_FILE)) or {}
            found.append((place.parent.name if place != single else "1", pictures | document))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
