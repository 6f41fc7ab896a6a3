"""Which item an answer is for: by id, by other names with the question beside, or by place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.benchmarks.answer_files import ID_FIELDS, AnswerLine
from sightline.benchmarks.base import Benchmark, InvalidItem, Item
from sightline.errors import InputError

GROUP_FIELDS = ("split", "category", "subtask", "group")


@dataclass
class Match:
    """Answers and their items.

    pairs           in the file's order
    unknown         ids of no item
    other_question  how many answers carry another question than their item's
    is_by_order     whether ids were of no use, and the questions' order decided
    """

    source: Path
    pairs: list[tuple[AnswerLine, Item]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    other_question: int = 0
    is_by_order: bool = False

    def responses(self) -> tuple[dict[str, str], int]:
        """Words by item id, and how many answers stand twice, alike; InputError for two that differ."""
        found: dict[str, str] = {}
        lines: dict[str, int] = {}
        repeated = 0
        for answer, item in self.pairs:
            if answer.response is None:
                continue
            if found.setdefault(item.id, answer.response) != answer.response:
                raise InputError(
                    f"{self.source}, line {answer.line}: another answer for {item.id!r} than that of line "
                    f"{lines[item.id]}; give one answer an item."
                )
            repeated += item.id in lines
            lines.setdefault(item.id, answer.line)
        return found, repeated


def by_place(source: Path, answers: Sequence[AnswerLine], entries: Sequence[Item | InvalidItem]) -> Match:
    """Each answer for the entry in its own place."""
    pairs = [(answer, entry) for answer, entry in zip(answers, entries, strict=True) if isinstance(entry, Item)]
    return Match(source, pairs)


def match(
    bench: Benchmark, source: Path, answers: Sequence[AnswerLine], entries: Sequence[Item | InvalidItem]
) -> Match:
    """Answers and items brought together.

    Raises InputError where ids are of several items and nothing says which, where answers without ids are not as many
    as the items, and where most answers are for none of the items or carry another question than their item's.
    """
    items = [entry for entry in entries if isinstance(entry, Item)]
    answers = [answer._replace(names=(*bench.names_in(answer.record), *answer.names)) for answer in answers]
    refusal: InputError | None = None
    try:
        found = _with_questions(_matched(bench, source, answers, entries, items))
    except InputError as error:
        refusal, found = error, Match(source)
    if refusal is None and not found.unknown and not found.other_question:
        return found
    ordered = _ordered(bench, source, answers, items)
    if ordered is not None:
        return ordered
    if refusal is not None:
        raise refusal
    _require_sense(found, items)
    return found


def _require_sense(found: Match, items: Sequence[Item]) -> None:
    """InputError where numbers meet items of other questions, as those of one split in a file that runs over all."""
    questioned = [(answer, item) for answer, item in found.pairs if answer.question() and "question" in item.about]
    known = {item.id for item in items}
    if any(name in known for answer, _ in found.pairs for name in answer.names):
        return
    if len(questioned) > 4 and found.other_question > len(questioned) / 2:
        answer, item = next(pair for pair in questioned if _asks_another(*pair))
        raise InputError(
            f"{found.source}: {found.other_question} of {len(questioned)} answers carry another question than "
            f"the item that they would be scored as; the first is line {answer.line}, "
            f"{(answer.question() or '')[:60]!r} for {item.id!r}: give the data and the split that were asked."
        )
    if found.pairs and len(found.unknown) > max(4, len(found.pairs)) and not questioned:
        raise InputError(
            f"{found.source}: {len(found.unknown)} of {len(found.unknown) + len(found.pairs)} answers are for none of "
            f"the items, the first id being {found.unknown[0][:40]!r}, and without a question beside the others may "
            "be for other splits: give ids such as "
            f"{items[0].id!r}, or the questions."
        )


def _with_questions(found: Match) -> Match:
    found.other_question = sum(_asks_another(answer, item) for answer, item in found.pairs)
    return found


def _ordered(bench: Benchmark, source: Path, answers: Sequence[AnswerLine], items: Sequence[Item]) -> Match | None:
    """By the benchmark's own order of questions, where no line names an item by its full id."""
    known = {item.id for item in items}
    if any(name in known for answer in answers for name in answer.names):
        return None
    placed = bench.items_in_order([(answer.record, answer.question()) for answer in answers], items)
    if placed is None:
        return None
    found = Match(source, is_by_order=True)
    for answer, item in zip(answers, placed, strict=True):
        if item is None:
            found.unknown.append(answer.names[0] if answer.names else f"line {answer.line}")
        else:
            found.pairs.append((answer, item))
    return found


def _matched(
    bench: Benchmark,
    source: Path,
    answers: Sequence[AnswerLine],
    entries: Sequence[Item | InvalidItem],
    items: Sequence[Item],
) -> Match:
    unnamed = [answer for answer in answers if not answer.names]
    if len(unnamed) == len(answers):
        if len(answers) != len(entries):
            raise InputError(
                f"{source} has {len(answers)} answers without ids and there are {len(entries)} items: "
                "give as many, in their order, or ids."
            )
        return by_place(source, answers, entries)
    if unnamed:
        raise InputError(
            f"{source}, line {unnamed[0].line}: there is no id, and other lines have one; "
            f"give all lines one of {', '.join(ID_FIELDS)}, or none."
        )
    found = Match(source)
    found.pairs = list(_named(bench, found, answers, items))
    return found


def _named(
    bench: Benchmark, found: Match, answers: Sequence[AnswerLine], items: Sequence[Item]
) -> Iterable[tuple[AnswerLine, Item]]:
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
        chosen = _narrowed(answer, candidates)
        if len(chosen) > 1:
            raise InputError(
                f"{found.source}, line {answer.line}: the id {names[0]!r} is that of {len(chosen)} items, and nothing "
                f"beside it tells which; give ids such as {chosen[0].id!r}, or choose one split."
            )
        if chosen:
            yield answer, chosen[0]
        else:
            found.unknown.append(names[0])


def _narrowed(answer: AnswerLine, candidates: Sequence[Item]) -> Sequence[Item]:
    """Those of the candidates that the rest of the line leaves."""
    if len(candidates) < 2:
        return candidates
    groups = {answer.record.get(name) for name in GROUP_FIELDS if isinstance(answer.record.get(name), str)}
    named = [item for item in candidates if item.group in groups] or candidates
    question = answer.question()
    if len(named) < 2 or question is None:
        return named
    wanted_question = _plain(question)
    same = [item for item in named if _plain(_question_of(item)) == wanted_question]
    return same or [item for item in named if _plain(_question_of(item)) in wanted_question] or named


def _asks_another(answer: AnswerLine, item: Item) -> bool:
    question = answer.question()
    if question is None or "question" not in item.about:
        return False
    return _plain(_question_of(item)) not in _plain(question)


def _question_of(item: Item) -> str:
    return str(item.about.get("question", item.prompt))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
