"""Answers made anywhere, brought together with their items and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.benchmarks.answer_fields import WEAK, order_for, question_beside, truth_forms
from sightline.benchmarks.answer_files import AnswerLine, fields_of, read_answers, run_settings
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Verdict
from sightline.benchmarks.limit import first_items
from sightline.benchmarks.matching import Match, by_place, match
from sightline.errors import InputError

MANY_UNPARSED = 0.1
"""A larger share of answers without a label is noted, with examples."""

EXAMPLES = 3


@dataclass(frozen=True)
class Scored:
    """Answers and what they count for.

    document    as `sightline score --json` prints it
    items       all of the benchmark, answered or not; responses and judgements by item id
    notes       sentences on what a reader of the figures must know
    field       the name under which the model's words stand, several joined by "+"
    """

    document: dict[str, Any]
    items: tuple[Item, ...]
    responses: Mapping[str, str]
    judgements: Mapping[str, Verdict]
    notes: tuple[str, ...] = ()
    field: str | None = None


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
    field: str | None = None,
) -> Scored:
    """The score of an answers file, of a run folder of `sightline eval`, or of a benchmark's own kind of folder.

    data            the benchmark's files; None: those a run folder names, or what the answers carry, else the hub (the
                    bundled world)
    seed, limit     of the items; a run folder's own go first
    method, model   whose answers, in a run folder that has several
    field           where the model's words stand in a line; None: found by name, and never the truth or the question
    Raises InputError in one sentence when the answers cannot be read or none of them finds its item.
    """
    given = read_answers(bench, answers, method, model, field)
    settings = run_settings(answers)
    if settings.get("bench", bench.name) in bench.shares_answers_of:
        settings = {"seed": settings.get("seed", seed)}  # other files, and a share of other items
    if settings.get("bench", bench.name) != bench.name:
        raise InputError(f"{answers} holds answers to {settings['bench']}, not to {bench.name}.")
    if isinstance(settings.get("path"), str) and data is None:
        data = Path(settings["path"])
    return score_given(
        bench, answers, given, data, parser=parser, seed=settings.get("seed", seed),
        limit=settings.get("limit", limit), field=field, is_run=bool(settings),
    )  # fmt: skip


def score_given(
    bench: Benchmark,
    source: Path,
    given: Sequence[AnswerLine],
    data: Path | None,
    *,
    parser: Parser = "official",
    seed: int = 0,
    limit: int | None = None,
    field: str | None = None,
    is_run: bool = False,
) -> Scored:
    """The score of answers that are read already; source: what errors call them."""
    carried = None if data is not None else bench.items_of_answers([answer.record for answer in given])
    entries: Sequence[Item | InvalidItem]
    if carried is not None:
        entries = carried
        found = by_place(source, given, entries)
    else:
        entries = bench.truths(data, seed=seed, limit=limit)
        if limit is not None:
            entries = _share_of_run(bench, entries, limit, given)
        found = match(bench, source, given, entries)
    if field is None and not is_run:
        _read_again(bench, found)
    responses, repeated = found.responses()
    items = tuple(entry for entry in entries if isinstance(entry, Item))
    if not responses:
        raise _nothing_matches(bench, source, given, items, field)
    judgements = {item.id: bench.verdict(item, responses[item.id], parser) for item in items if item.id in responses}
    document = {
        "bench": bench.name,
        "parser": parser,
        **bench.score(items, judgements),
        "missing": len(entries) - len(judgements),
        "unknown": len(found.unknown),
    }
    notes = (
        *_field_notes(bench, found, field),
        *_notes(found, repeated, entries, judgements),
        *bench.oddities([item for item in items if item.id in judgements]),
        *unparsed_notes(responses, judgements),
    )
    return Scored(document, items, responses, judgements, notes, _field(found))


def unparsed_notes(responses: Mapping[str, str], judgements: Mapping[str, Verdict]) -> list[str]:
    """The note where more than a tenth of the answers has no label, with examples."""
    unread = [name for name, verdict in judgements.items() if not verdict.is_read]
    if len(unread) <= MANY_UNPARSED * len(judgements):
        return []
    shown = ", ".join(f"{name}: {_shortened(responses[name])}" for name in unread[:EXAMPLES])
    return [f"{len(unread)} of {len(judgements)} answers could not be read as an answer; such as {shown}."]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:50]} ... {text[-25:]}")


def _read_again(bench: Benchmark, found: Match) -> None:
    """The responses from the fields that are neither the truth nor the question."""
    lines = [
        (
            answer.record,
            truth_forms(item.truth, item.about.get("options")),
            str(item.about.get("question") or question_beside(answer.record, answer.field) or ""),
        )
        for answer, item in found.pairs
    ]
    order = order_for(fields_of(bench), lines, found.source)
    found.pairs = [(answer.read_in(order), item) for answer, item in found.pairs]


def _field(found: Match) -> str | None:
    """Where the words were found; several fields joined by "+"."""
    names = dict.fromkeys(answer.field for answer, _ in found.pairs if answer.field is not None)
    return "+".join(names) or None


def _field_notes(bench: Benchmark, found: Match, field: str | None) -> Iterator[str]:
    taken = _field(found)
    if field is None and taken is not None:
        others = [
            name
            for name in fields_of(bench)
            if name != taken and "+" not in taken and any(name in answer.record for answer, _ in found.pairs)
        ]
        if others:
            yield f"The model's words are read under {taken!r}, not under {', '.join(map(repr, others))} (--field)."
    if found.is_by_order:
        yield "The ids do not say which items the answers are for: they are taken in the order of the questions."


def _share_of_run(
    bench: Benchmark, entries: Sequence[Item | InvalidItem], limit: int, answers: Sequence[AnswerLine]
) -> list[Item | InvalidItem]:
    """The share of a limited run, and what came beyond it when the run was continued with a larger limit."""
    share = first_items(bench, [entry for entry in entries if isinstance(entry, Item)], limit)
    chosen = {item.id for item in share} | {name for answer in answers for name in answer.names}
    return [entry for entry in entries if entry.id in chosen]


def _nothing_matches(
    bench: Benchmark, source: Path, answers: Sequence[AnswerLine], items: Sequence[Item], field: str | None
) -> InputError:
    if all(answer.response is None for answer in answers):
        order = fields_of(bench, field)
        plain = [name for name in order if name == "response" or name in WEAK] or list(order)
        others = [name for name in order if name not in plain]
        also = f", or {', '.join(others)}" if others else ""
        return InputError(
            f"{source} holds no response: the model's words are expected under one of {', '.join(plain)}{also}."
        )
    names = next((answer.names for answer in answers if answer.names), ["none"])
    example = items[0].id if items else "none"
    return InputError(
        f"None of the {len(answers)} answers in {source} is for an item of {bench.name}: the first id there is "
        f"{names[0][:80]!r}, and the items' are such as {example!r}."
    )


def _notes(
    found: Match, repeated: int, entries: Sequence[Item | InvalidItem], judgements: Mapping[str, Verdict]
) -> tuple[str, ...]:
    notes = []
    missing = len(entries) - len(judgements)
    bad = [entry for entry in entries if isinstance(entry, InvalidItem)]
    if missing:
        notes.append(
            f"missing: {missing} of {len(entries)} items have no answer; the figures are over the other items."
        )
    if bad:
        notes.append(f"Of these, {len(bad)} cannot be asked; the first: {bad[0].error}")
    if found.unknown:
        notes.append(
            f"{len(found.unknown)} answers are for none of the items and are left out; the first id: "
            f"{found.unknown[0][:80]!r}."
        )
    if repeated:
        notes.append(f"{repeated} answers stand there twice, alike, and count once.")
    if found.other_question:
        notes.append(
            f"{found.other_question} answers carry another question than the item that they are scored as: "
            "is this the right split?"
        )
    return tuple(notes)
