"""The folder that a training writes into: free, owned by one training at a time, and gone on with by the same alone."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_sample import TrainingData
from sightline.errors import InputError
from sightline.files.json import json_text, parse_object, read_object, write_atomically, write_error
from sightline.runs.log import LOG_NAME, RunLog
from sightline.runs.processes import held_alone, launched_as
from sightline.runs.runner import OF_THE_DISK
from sightline.training.checkpoints import checkpoints, drop_torn, last_whole, step_of
from sightline.training.state import TrainingEvaluation

if TYPE_CHECKING:
    from sightline.training.settings import TrainSettings

TRAINING_FILE, LOG_FILE, EVALUATIONS_FILE, CHECKPOINTS = "training.json", "log.jsonl", "evaluations.json", "checkpoints"
FREE = {"workers", "log_steps", "save_steps", "eval_steps", "eval_limit", "eval_benches", "report_to"}
"""Settings that change no weight: they may differ when a training is gone on with."""


def training_document(
    settings: TrainSettings, model: str, data: TrainingData, about: Mapping[str, Any]
) -> dict[str, Any]:
    """What `resume` holds a folder to: settings, model, data and a digest of it."""
    whole = {"settings": dataclasses.asdict(settings), "about": {"model": model, "data": data.name, **about}}
    plain: dict[str, Any] = json.loads(json_text(whole))
    return plain


def require_folder(folder: Path, document: Mapping[str, Any], resume: bool) -> None:
    """InputError where a training of this document may not write into the folder; nothing is written."""
    known = read_object(folder / TRAINING_FILE)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder to train into.")
    is_first = launched_as()[0] == 0
    if known is None:
        if folder.is_dir() and is_first and not _is_bare(folder):
            raise InputError(f"The folder {folder} holds something else: give an empty or a new one to train into.")
    elif resume or not is_first:
        _require_same(known, document, folder)
    else:
        raise InputError(f"The folder {folder} holds a training already: resume it, or give another.")


def claim(folder: Path, document: Mapping[str, Any], resume: bool) -> Path | None:
    """The checkpoint to go on from; the folder belongs to this training from now on."""
    require_folder(folder, document, resume)
    place = folder / CHECKPOINTS
    if launched_as()[0] == 0:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written ({error.strerror}): give another.") from error
        if resume:
            drop_torn(place)
        write_atomically(folder / TRAINING_FILE, json_text(document, indent=1))
    return last_whole(place) if resume else None


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Inside, no other training may write into the folder; of several processes the first holds it for all."""
    if launched_as()[0]:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written ({error.strerror}): give another.") from error
    with held_alone(folder, "trained into"):
        yield


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds nothing but an empty folder of checkpoints, as a kill right at the start leaves it."""
    place = folder / CHECKPOINTS
    return all(path == place for path in folder.iterdir()) and not (place.is_dir() and any(place.iterdir()))


def release(folder: Path) -> None:
    """A training that ended before anything came of it leaves its folder free, for a command that is set right."""
    place, log = folder / CHECKPOINTS, folder / LOG_FILE
    if launched_as()[0] or checkpoints(place) or any(line.get("step") for line in log_lines(log)):
        return
    if not (folder / "config.json").exists():
        for file in (folder / TRAINING_FILE, log, folder / LOG_NAME):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            place.rmdir()


@contextmanager
def logged(folder: Path, document: Mapping[str, Any], last: Path | None) -> Iterator[None]:
    """Inside, the log of the folder is kept; a full disk, by any library, is a sentence on how to go on."""
    rank, log = launched_as()[0], RunLog(folder)
    log.begin("train", document, rank, f"from step {step_of(last)} on" if last else "")
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        place = last_whole(folder / CHECKPOINTS)
        kept = f"the checkpoint of step {step_of(place)} is kept there" if place else "no checkpoint was saved before"
        if isinstance(raised, Exception) and _is_of_disk(raised):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if not isinstance(raised, OSError) else raised
            error = write_error(folder, full, f"{kept}; with --resume it is gone on with")
            raise error from raised
        raise
    finally:
        log.end(error, "; ".join(path.name for path in checkpoints(folder / CHECKPOINTS)) or "no checkpoint is here")
        log.close()


def _is_of_disk(error: Exception) -> bool:
    """Whether writing failed: as Python says it, as safetensors does, and as torch.save does."""
    if isinstance(error, OSError):
        return error.errno in OF_THE_DISK
    words = str(error)
    return "No space left on device" in words or "PytorchStreamWriter failed writing" in words


def _require_same(known: Mapping[str, Any], document: Mapping[str, Any], folder: Path) -> None:
    for part in ("about", "settings"):
        before = known.get(part, {})
        if not isinstance(before, Mapping):
            raise InputError(f"{folder / TRAINING_FILE} is damaged: give another --out.")
        for name, value in document[part].items():
            if name not in FREE and before.get(name) != value:
                raise InputError(
                    f"The training in {folder} had {name} {before.get(name)!r} and not {value!r}: resume it with the "
                    "same, or give another --out."
                )


def past_evaluations(folder: Path, last: Path | None) -> list[TrainingEvaluation]:
    """Those made up to the checkpoint, from its log."""
    if last is None:
        return []
    found = []
    for line in log_lines(folder / LOG_FILE):
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        figures = {name[5:]: float(value) for name, value in numbers.items() if name.startswith("eval_")}
        if figures and line.get("step", 0) <= step_of(last):
            found.append(TrainingEvaluation(figures, figures.pop("score", float("nan")), int(line["step"])))
    return found


def log_lines(file: Path) -> list[dict[str, Any]]:
    """Every whole line of a log; one that a kill has torn, or somebody changed, is passed over."""
    try:
        rows = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in map(parse_object, rows) if line is not None and isinstance(line.get("step", 0), int)]
