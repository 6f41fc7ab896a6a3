"""Answers made anywhere: read from files of many kinds, brought together with their items, and scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Verdict
from sightline.benchmarks.limit import first_items
from sightline.errors import InputError
from sightline.files.jsonl import json_objects, name_of, words_of
from sightline.runs.folder import RUN_FILE, Record, read_records

ID_FIELDS = ("question_id", "idx", "image_id", "id")
GROUP_FIELDS = ("split", "category", "subtask", "group")
QUESTION_FIELDS = ("question", "prompt", "text")


class Answer(NamedTuple):
    """One line of an answers file.

    names     what the line calls its item, the most telling field first
    response  None where the line has none, as of a sample that failed
    """

    line: int
    record: Mapping[str, Any]
    names: Sequence[str]
    response: str | None

    def question(self, response_fields: Sequence[str]) -> str | None:
        """The question that stands beside the response."""
        taken = next((name for name in response_fields if name in self.record), None)
        found = (self.record.get(name) for name in QUESTION_FIELDS if name != taken)
        return next((text for text in found if isinstance(text, str) and text.strip()), None)


@dataclass(frozen=True)
class Scored:
    """Answers and what they count for.

    document    as `sightline score --json` prints it
    items       all of the benchmark, answered or not; responses and judgements by item id
    notes       sentences on what a reader of the figures must know
    """

    document: dict[str, Any]
    items: tuple[Item, ...]
    responses: Mapping[str, str]
    judgements: Mapping[str, Verdict]
    notes: tuple[str, ...] = ()


@dataclass
class _Match:
    """Responses as they find their items."""

    source: Path
    responses: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    repeated: int = 0
    other_question: int = 0

    def add(self, answer: Answer, item: Item) -> None:
        if answer.response is None:
            return
        before = self.responses.setdefault(item.id, answer.response)
        if before != answer.response:
            raise InputError(
                f"{self.source}, line {answer.line}: another answer for {item.id!r} than that of line "
                f"{self.lines[item.id]}; give one answer an item."
            )
        if item.id in self.lines:
            self.repeated += 1
        self.lines.setdefault(item.id, answer.line)


def score_answers(
    bench: Benchmark,
    answers: Path,
    data: Path | None = None,
    *,
    parser: Parser = "official",
    method: str | None = None,
    model: str | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Scored:
    """The score of an answers file, of a run folder of `sightline eval`, or of a benchmark's own kind of folder.

    data            the benchmark's files; None: those a run folder names, or what the answers carry, else the hub (the
                    bundled world)
    seed, limit     of the items; a run folder's own go first
    method, model   whose answers, in a run folder that has several
    Raises InputError in one sentence when the answers cannot be read or none of them finds its item.
    """
    given = read_answers(bench, answers, method, model)
    settings = _run_settings(answers)
    if settings.get("bench", bench.name) != bench.name:
        raise InputError(f"{answers} holds answers to {settings['bench']}, not to {bench.name}.")
    if isinstance(settings.get("path"), str) and data is None:
        data = Path(settings["path"])
    carried = None if data is not None else bench.items_of_answers([answer.record for answer in given])
    entries: Sequence[Item | InvalidItem]
    if carried is not None:
        entries = carried
    else:
        limit = settings.get("limit", limit)
        entries = bench.truths(data, seed=settings.get("seed", seed), limit=limit)
        if limit is not None:
            entries = _asked(bench, entries, limit, given)
    match = _by_place(answers, given, entries) if carried is not None else _match(bench, answers, given, entries)
    items = tuple(entry for entry in entries if isinstance(entry, Item))
    if not match.responses:
        raise _nothing_matches(bench, answers, given, items)
    judgements = {
        item.id: bench.judge(item, match.responses[item.id], parser) for item in items if item.id in match.responses
    }
    document = {
        "bench": bench.name,
        "parser": parser,
        **bench.score(items, judgements),
        "missing": len(entries) - len(judgements),
        "unknown": len(match.unknown),
    }
    return Scored(document, items, match.responses, judgements, _notes(match, entries, judgements))


def read_answers(bench: Benchmark, path: Path, method: str | None = None, model: str | None = None) -> list[Answer]:
    """The lines of an answers file or folder; InputError says what is wrong with which line."""
    if not path.exists():
        raise InputError(f"The answers {path} do not exist.")
    own = bench.read_answers(path)
    if own is not None:
        return _answers(bench, enumerate(own, start=1))
    folder = _run_folder(path)
    if folder is not None:
        return _answers(bench, enumerate(_run_records(folder, method, model), start=1))
    if path.is_dir():
        if below := run_folders(path):
            raise InputError(f"{path} holds run folders: give one of them, such as {', '.join(map(str, below[:5]))}.")
        raise InputError(
            f"The folder {path} holds no answers to {bench.name}: give a file of JSON lines or a run folder."
        )
    if method is not None or model is not None:
        raise InputError(f"{path} is no run folder: a method or model can be chosen only there.")
    lines = json_objects(path)
    for line in lines:
        if line.value is None:
            raise InputError(f"{path}, line {line.number}: {line.error}; one JSON object a line is expected.")
    return _answers(bench, ((line.number, line.value) for line in lines if line.value is not None))


def _answers(bench: Benchmark, records: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Answer]:
    answers = []
    for number, record in records:
        found = next((name for name in bench.response_fields if name in record), None)
        names = [name_of(record[name]) for name in ID_FIELDS if name in record]
        known = [name for name in names if name is not None]
        answers.append(Answer(number, record, known, None if found is None else words_of(record[found])))
    return answers


# Run folders --------------------------------------------------------------------------------------------------------


def _run_folder(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    is_named = path.is_dir() or (path.name.startswith("samples") and path.suffix == ".jsonl")
    return folder if is_named and any(folder.glob("samples*.jsonl")) and (folder / RUN_FILE).exists() else None


def run_folders(folder: Path) -> list[Path]:
    """The run folders right below a folder that is none itself, as of an evaluation on several benchmarks."""
    return [] if (folder / RUN_FILE).exists() else sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))


def _run_settings(path: Path) -> Mapping[str, Any]:
    """What a run folder says of the items it asked; nothing for other answers."""
    folder = _run_folder(path)
    if folder is None:
        return {}
    try:
        about = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        settings = about["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / RUN_FILE} cannot be read as a run's description.") from error
    about = {**about.get("info", {}), **settings}
    known = ("bench", "seed", "limit", "path", "fields")
    return {name: about[name] for name in known if about.get(name) is not None}


def run_fields(name: str, path: Path) -> dict[str, str]:
    """What a run folder of this benchmark says was chosen about it, as its split; nothing for other answers."""
    settings = _run_settings(path) if path.exists() else {}
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
        return InputError(f"{folder} holds no answers of that choice; its methods are {methods}, its models {models}.")
    if method is None and len({record.method for record in records}) > 1:
        return InputError(f"{folder} holds answers of several methods: choose one by --method from {methods}.")
    return InputError(f"{folder} holds answers of several models: choose one by --model from {models}.")


# Answers and items --------------------------------------------------------------------------------------------------


def _asked(
    bench: Benchmark, entries: Sequence[Item | InvalidItem], limit: int, answers: Sequence[Answer]
) -> list[Item | InvalidItem]:
    """The share that a limited run asks, and what it was asked beyond when it was continued with a larger limit."""
    share = first_items(bench, [entry for entry in entries if isinstance(entry, Item)], limit)
    asked = {item.id for item in share} | {name for answer in answers for name in answer.names}
    return [entry for entry in entries if entry.id in asked]


def _by_place(source: Path, answers: Sequence[Answer], entries: Sequence[Item | InvalidItem]) -> _Match:
    match = _Match(source)
    for answer, entry in zip(answers, entries, strict=True):
        if isinstance(entry, Item):
            match.add(answer, entry)
    return match


def _match(bench: Benchmark, source: Path, answers: Sequence[Answer], entries: Sequence[Item | InvalidItem]) -> _Match:
    items = [entry for entry in entries if isinstance(entry, Item)]
    unnamed = [answer for answer in answers if not answer.names]
    if len(unnamed) == len(answers):
        if len(answers) != len(entries):
            raise InputError(
                f"{source} has {len(answers)} answers without ids and there are {len(entries)} items: "
                "give as many, in their order, or ids."
            )
        match = _by_place(source, answers, entries)
        pairs = [(answer, entry) for answer, entry in zip(answers, entries, strict=True) if isinstance(entry, Item)]
    elif unnamed:
        raise InputError(
            f"{source}, line {unnamed[0].line}: there is no id, and other lines have one; "
            f"give all lines one of {', '.join(ID_FIELDS)}, or none."
        )
    else:
        match = _Match(source)
        pairs = list(_named(bench, match, answers, items))
        for answer, item in pairs:
            match.add(answer, item)
    match.other_question = sum(_asks_another(bench, answer, item) for answer, item in pairs)
    return match


def _named(
    bench: Benchmark, match: _Match, answers: Sequence[Answer], items: Sequence[Item]
) -> Iterable[tuple[Answer, Item]]:
    by_id = {item.id: item for item in items}
    by_alias: dict[str, list[Item]] = {}
    for item in items:
        for alias in bench.aliases(item):
            by_alias.setdefault(alias, []).append(item)
    for answer in answers:
        names = answer.names
        exact = next((by_id[name] for name in names if name in by_id), None)
        if exact is not None:
            yield answer, exact
            continue
        candidates = next((by_alias[name] for name in names if name in by_alias), [])
        chosen = _narrowed(bench, answer, candidates)
        if len(chosen) > 1:
            raise InputError(
                f"{match.source}, line {answer.line}: the id {names[0]!r} is that of {len(chosen)} items, and nothing "
                f"beside it tells which; give ids such as {chosen[0].id!r}, or choose one split."
            )
        if chosen:
            yield answer, chosen[0]
        else:
            match.unknown.append(names[0])


def _narrowed(bench: Benchmark, answer: Answer, candidates: Sequence[Item]) -> Sequence[Item]:
    """Those of the candidates that the rest of the line tells."""
    if len(candidates) < 2:
        return candidates
    groups = {answer.record.get(name) for name in GROUP_FIELDS if isinstance(answer.record.get(name), str)}
    named = [item for item in candidates if item.group in groups] or candidates
    question = answer.question(bench.response_fields)
    if len(named) < 2 or question is None:
        return named
    asked = _plain(question)
    same = [item for item in named if _plain(_question_of(item)) == asked]
    return same or [item for item in named if _plain(_question_of(item)) in asked] or named


def _asks_another(bench: Benchmark, answer: Answer, item: Item) -> bool:
    question = answer.question(bench.response_fields)
    if question is None or "question" not in item.about:
        return False
    return _plain(_question_of(item)) not in _plain(question)


def _question_of(item: Item) -> str:
    return str(item.about.get("question", item.prompt))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


# What is said beside the figures ------------------------------------------------------------------------------------


def _nothing_matches(bench: Benchmark, source: Path, answers: Sequence[Answer], items: Sequence[Item]) -> InputError:
    if all(answer.response is None for answer in answers):
        fields = ", ".join(bench.response_fields)
        return InputError(f"{source} holds no response: the model's words are expected under one of {fields}.")
    names = next((answer.names for answer in answers if answer.names), ["none"])
    example = items[0].id if items else "none"
    return InputError(
        f"None of the {len(answers)} answers in {source} is for an item of {bench.name}: the first id there is "
        f"{names[0][:80]!r}, and the items' are such as {example!r}."
    )


def _notes(match: _Match, entries: Sequence[Item | InvalidItem], judgements: Mapping[str, Verdict]) -> tuple[str, ...]:
    notes = []
    missing = len(entries) - len(judgements)
    bad = [entry for entry in entries if isinstance(entry, InvalidItem)]
    if missing:
        notes.append(
            f"missing: {missing} of {len(entries)} items have no answer; the figures are over the other items."
        )
    if bad:
        notes.append(f"Of these, {len(bad)} cannot be asked; the first: {bad[0].error}")
    if match.unknown:
        notes.append(
            f"{len(match.unknown)} answers are for none of the items and are left out; the first id: "
            f"{match.unknown[0][:80]!r}."
        )
    if match.repeated:
        notes.append(f"{match.repeated} answers stand there twice, alike, and count once.")
    if match.other_question:
        notes.append(
            f"{match.other_question} answers carry another question than the item that they are scored as: "
            "is this the right split?"
        )
    return tuple(notes)
