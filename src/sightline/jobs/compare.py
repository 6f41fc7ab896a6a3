"""Answers of two or more methods or models, made anywhere, scored on the same items and compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sightline.benchmarks.answer_files import answers_of, run_fields
from sightline.benchmarks.answers import Scored, score_answers, score_given
from sightline.benchmarks.base import Benchmark, Parser, find_bench
from sightline.benchmarks.compare import adjust, intervals
from sightline.benchmarks.compare import compare_verdicts as compare_sides
from sightline.errors import InputError
from sightline.pages.forest import effects_axes
from sightline.pages.tables.evaluate import sections, write_tables
from sightline.results.result import Result
from sightline.runs.folder import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width
    from sightline.results.table import Section

Answers: TypeAlias = "str | Path | Mapping[Any, Any]"
"""An answers file, a folder of official files, a run folder, or the words by the item's id."""


@dataclass(frozen=True)
class PairedScores(Result):
    """Scores of several sets of answers, and each one's difference from the first.

    document  as `sightline compare --json` prints it, the `eval` document with its `paired`
    notes     sentences on what a reader of the figures must know
    """

    document: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return dict(self.document)

    @property
    def paired(self) -> list[dict[str, Any]]:
        """Each other set of answers against the first: delta, ci95, p_value, p_holm, flips."""
        return list(self.document["paired"])

    def entries(self) -> list[dict[str, Any]]:
        """A row a compared figure: b's difference from a as value, with low, high, p_value, p_holm and n."""
        rows = []
        for pair in self.paired:
            shared = {"model": pair["b"], "a": pair["a"], "b": pair["b"], "bench": self.document["bench"]}
            for name, found in pair["figures"].items():
                low, high = found["ci95"] or (None, None)
                row = shared | {"metric": name, "value": found["delta"], "low": low, "high": high}
                rows.append(row | {key: pair[key] for key in ("p_value", "p_holm", "n")})
        return rows

    def sections(self) -> list[Section]:
        """As tables."""
        return sections([self.to_dict()])

    def plot(
        self, ax: Any = None, *, metric: str = "difference", style: Style = "paper", width: Width = "column"
    ) -> Axes:
        """A forest with 95% intervals: the "difference" to the first set, or each "score"."""
        return effects_axes([self.to_dict()], ax, metric, style, width)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder that `sl.read_run` reads, with table.csv, table.md and table.tex."""
        settings = {name: self.document[name] for name in ("bench", "parser", "seed", "fields", "path", "answers")}
        with Run.open(folder, "compare", settings, info={"notes": list(self.notes)}) as kept:
            kept.finish(self.to_dict())
        write_tables(Path(folder), [self.to_dict()])
        return Path(folder)


def compare(
    bench: str | Benchmark,
    a: Answers,
    b: Answers,
    *others: Answers,
    data: str | Path | None = None,
    parser: Parser = "official",
    seed: int = 0,
    names: Sequence[str] | None = None,
    methods: Sequence[str | None] = (),
    field: str | None = None,
    **fields: Any,
) -> PairedScores:
    """Answers b, and any others, against answers a: difference, paired bootstrap interval, sign-flip p, flips, Holm.

    bench    its name, or a benchmark
    a, b     an answers file (also of other harnesses), a folder of official files, a run folder, or {id: words}
    data     the benchmark's files; None: those that a run folder names, or what the answers carry, else the hub
    parser   official, or strict
    seed     of the bootstrap
    names    what the sets are called; None: by their files
    methods  whose answers, for each run folder that has several methods
    field    where the model's words stand in a line; None: found by name
    fields   of the benchmark, as split="random"

    Raises InputError where answers cannot be read, find no item, or have none in common.
    """
    sides = (a, b, *others)
    for side in sides:
        if not isinstance(side, str | PathLike | Mapping):
            raise InputError(f"{type(side).__name__} is no set of answers: give a file, a folder, or {{id: words}}.")
    if not isinstance(data, str | PathLike | None):
        raise InputError(f"data is {type(data).__name__}: give the path of the benchmark's files.")
    benchmark = _bench(bench, sides, fields) if isinstance(bench, str) else bench
    labels = list(names) if names is not None else _labels(sides, methods)
    if len(labels) != len(sides) or len(set(labels)) < len(labels):
        raise InputError(f"{len(sides)} sets of answers need as many different names, and not {', '.join(labels)}.")
    chosen = [*methods, *[None] * len(sides)][: len(sides)]
    scored = [
        _scored(benchmark, side, label, None if data is None else Path(data), parser, method, seed, field)
        for side, label, method in zip(sides, labels, chosen, strict=True)
    ]
    document = _document(benchmark, scored, labels, parser, seed)
    document |= {"fields": fields, "path": None if data is None else str(data), "answers": list(map(_place, sides))}
    notes = [f"{label}: {note}" for label, found in zip(labels, scored, strict=True) for note in found.notes]
    return PairedScores(document, tuple(notes))


def _bench(name: str, sides: Sequence[Answers], fields: Mapping[str, Any]) -> Benchmark:
    return find_bench(name, **(_run_fields(name, sides) | dict(fields)))


def _run_fields(name: str, sides: Sequence[Answers]) -> dict[str, Any]:
    """What a run folder among them says was chosen about the benchmark."""
    found: dict[str, Any] = {}
    for side in sides:
        if not isinstance(side, Mapping):
            found |= run_fields(name, Path(side).expanduser())
    return found


def _labels(sides: Sequence[Answers], methods: Sequence[str | None]) -> list[str]:
    """By method, else by file or folder, made different by the folder above or by number."""
    plain = []
    for number, side in enumerate(sides):
        method = methods[number] if number < len(methods) else None
        if isinstance(side, Mapping):
            plain.append(method or "abcdefghijklmnopqrstuvwxyz"[number % 26])
        else:
            path = Path(side)
            plain.append(method or (path.stem if path.suffix in (".json", ".jsonl") else path.name) or str(path))
    if len(set(plain)) < len(plain):
        plain = [
            label
            if isinstance(side, Mapping) or plain.count(label) == 1
            else f"{Path(side).absolute().parent.name}/{label}"
            for label, side in zip(plain, sides, strict=True)
        ]
    return [label if plain.index(label) == number else f"{label} {number + 1}" for number, label in enumerate(plain)]


def _scored(
    bench: Benchmark,
    side: Answers,
    label: str,
    data: Path | None,
    parser: Parser,
    method: str | None,
    seed: int,
    field: str | None,
) -> Scored:
    if not isinstance(side, Mapping):
        place = Path(side).expanduser()
        return score_answers(bench, place, data, parser=parser, method=method, seed=seed, field=field)
    if not side:
        raise InputError(f"The answers {label} are empty: {{id: words}} is expected.")
    records = [
        {"id": str(name)} if words is None else {"id": str(name), "response": str(words)}
        for name, words in side.items()
    ]
    given = answers_of(enumerate(records, start=1))
    return score_given(bench, Path(label), given, data, parser=parser, seed=seed, is_run=True)


def _document(
    bench: Benchmark, scored: Sequence[Scored], labels: Sequence[str], parser: Parser, seed: int
) -> dict[str, Any]:
    first, *others = scored
    known = {item.id for item in first.items}
    answered = known.intersection(*(found.judgements for found in scored))
    if not answered:
        raise InputError(
            f"The answers {' and '.join(labels)} have no item in common: give --data, the {bench.name} files that both "
            "were asked."
        )
    methods = {}
    for label, found in zip(labels, scored, strict=True):
        bounds = {bench.headline: (None, None), **intervals(bench, found.items, found.judgements, seed=seed)}
        score = {name: value for name, value in found.document.items() if name not in ("bench", "parser")}
        methods[label] = {
            **score,
            **{f"{name}_ci95": interval and list(interval) for name, (_, interval) in bounds.items()},
            "failed": 0,
            "seconds_per_item": None,
            "prefill_seconds_per_item": None,
            "cache_bytes_per_item": None,
            "method": label,
        }
    paired = [
        {"a": labels[0], "b": label}
        | compare_sides(bench, first.items, first.judgements, found.judgements, seed=seed).to_dict()
        for label, found in zip(labels[1:], others, strict=True)
    ]
    document = {
        "model": "answers",
        "bench": bench.name,
        "n": len(first.items),
        "answered_by_all": len(answered),
        "headline": bench.headline,
        "better": bench.better,
        "methods": methods,
        "paired": paired,
        "parser": parser,
        "seed": seed,
        "items": {"asked": len(first.items), "of": len(first.items)},
    }
    sides = {label: found.judgements for label, found in zip(labels[1:], others, strict=True)}
    found_frontier = bench.frontier(first.items, first.judgements, sides, seed)
    if found_frontier is not None:
        document["frontier"] = found_frontier
    adjust([document])
    return document


def _place(side: Answers) -> str | None:
    return None if isinstance(side, Mapping) else str(side)
