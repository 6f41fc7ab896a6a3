"""Answers made anywhere, as they stand in files of many kinds: JSON lines, tables, run folders, official outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.benchmarks.answer_fields import (
    QUESTION_FIELDS,
    RESPONSE_FIELDS,
    field_of,
    question_beside,
    response_words,
)
from sightline.benchmarks.base import Benchmark
from sightline.benchmarks.importers import foreign_records
from sightline.benchmarks.importers.objects import object_records
from sightline.errors import InputError
from sightline.files.jsonl import id_text, json_objects
from sightline.runs.description import RUN_FILE, described
from sightline.runs.records import Record, read_records

ID_FIELDS = ("question_id", "idx", "image_id", "id", "index")


class AnswerLine(NamedTuple):
    """One line of an answers file.

    line      its number, counted from 1
    record    the line
    names     what it calls its item, the most telling field first
    response  the model's words; None where it has none, as of a sample that failed
    field     where they stand
    """

    line: int
    record: Mapping[str, Any]
    names: Sequence[str]
    response: str | None
    field: str | None = None

    def question(self) -> str | None:
        """The question that stands beside the response."""
        return question_beside(self.record, self.field)

    def read_in(self, order: Sequence[str]) -> AnswerLine:
        """The answer with the words of the first of these fields that the line has."""
        found = field_of(self.record, order)
        return self._replace(response=None if found is None else response_words(self.record, found), field=found)


def fields_of(bench: Benchmark, field: str | None = None) -> tuple[str, ...]:
    """Where words are looked for: in the field that the user names alone, else in the benchmark's order."""
    return bench.response_fields if field is None else (field,)


def read_answers(
    bench: Benchmark, path: Path, method: str | None = None, model: str | None = None, field: str | None = None
) -> list[AnswerLine]:
    """The lines of an answers file or folder; InputError says what is wrong with which line.

    field: where the model's words stand; None: the first of the benchmark's fields that a line has.
    """
    if not path.exists():
        raise InputError(f"The answers {path} do not exist.")
    order = fields_of(bench, field)
    own = bench.read_answers(path)
    if own is not None:
        return answers_of(enumerate(own, start=1), order)
    folder = _run_folder(path)
    if folder is not None:
        return answers_of(enumerate(_run_records(folder, method, model), start=1), order)
    if path.is_dir():
        if below := run_folders(path):
            raise InputError(f"{path} holds run folders: give one of them, such as {', '.join(map(str, below[:5]))}.")
        raise InputError(
            f"The folder {path} holds no answers to {bench.name}: give a file of JSON lines or a run folder."
        )
    if method is not None or model is not None:
        raise InputError(f"{path} is no run folder: a method or model can be chosen only there.")
    foreign = foreign_records(path)
    if foreign is not None:
        return answers_of(enumerate(foreign, start=1), order)
    whole = object_records(path, frozenset((*ID_FIELDS, *QUESTION_FIELDS, *bench.response_fields)))
    if whole is not None:
        return answers_of(enumerate(whole, start=1), order)
    lines = json_objects(path)
    for line in lines:
        if line.value is None:
            raise InputError(f"{path}, line {line.number}: {line.error}; one JSON object a line is expected.")
    records = [line.value for line in lines if line.value is not None]
    foreign = foreign_records(path, records)
    if foreign is not None:
        return answers_of(enumerate(foreign, start=1), order)
    return answers_of(((line.number, line.value) for line in lines if line.value is not None), order)


def answers_of(
    records: Iterable[tuple[int, Mapping[str, Any]]], order: Sequence[str] = RESPONSE_FIELDS
) -> list[AnswerLine]:
    """Lines, numbered, as answers."""
    answers = []
    for number, record in records:
        names = [id_text(record[name]) for name in ID_FIELDS if name in record]
        known = [name for name in names if name is not None]
        answers.append(AnswerLine(number, record, known, None).read_in(order))
    return answers


# Run folders --------------------------------------------------------------------------------------------------------


def _run_folder(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    is_named = path.is_dir() or (path.name.startswith("samples") and path.suffix == ".jsonl")
    return folder if is_named and any(folder.glob("samples*.jsonl")) and (folder / RUN_FILE).exists() else None


def run_folders(folder: Path) -> list[Path]:
    """The run folders right below a folder that is none itself, as of an evaluation on several benchmarks."""
    return [] if (folder / RUN_FILE).exists() else sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))


def run_settings(path: Path) -> Mapping[str, Any]:
    """What a run folder says of its items; nothing for other answers."""
    folder = _run_folder(path)
    if folder is None:
        return {}
    described_as = described(folder)
    about = {**described_as["info"], **described_as["settings"]}
    known = ("bench", "seed", "limit", "path", "fields")
    return {name: about[name] for name in known if about.get(name) is not None}


def run_fields(name: str, path: Path) -> dict[str, str]:
    """What a run folder of this benchmark says was chosen about it, as its split; nothing for other answers."""
    settings = run_settings(path) if path.exists() else {}
    if settings.get("bench") != name or not isinstance(settings.get("fields"), Mapping):
        return {}
    return {field: value for field, value in settings["fields"].items() if isinstance(value, str)}


def _run_records(folder: Path, method: str | None, model: str | None) -> list[dict[str, Any]]:
    records = [
        record
        for record in read_records(folder)
        if (method is None or record.method == method) and (model is None or record.model == model)
    ]
    kept = {(record.model, record.method) for record in records}
    if len(kept) != 1:
        raise _choose(folder, method, model, read_records(folder), len(kept))
    answered = [(record.id, (record.result or {}).get("response")) for record in records]
    return [{"id": name} if response is None else {"id": name, "response": response} for name, response in answered]


def _choose(folder: Path, method: str | None, model: str | None, records: Sequence[Record], kept: int) -> InputError:
    methods = ", ".join(sorted({record.method for record in records}))
    models = ", ".join(sorted({record.model for record in records}))
    if not records:
        return InputError(f"{folder} holds no finished sample.")
    if not kept:
        wanted = " of ".join(name for name in (method, model) if name is not None)
        return InputError(f"{folder} holds no answers under {wanted}; its methods are {methods}, its models {models}.")
    if method is None and len({record.method for record in records}) > 1:
        return InputError(f"{folder} holds answers of several methods: choose one by --method from {methods}.")
    return InputError(f"{folder} holds answers of several models: choose one by --model from {models}.")
