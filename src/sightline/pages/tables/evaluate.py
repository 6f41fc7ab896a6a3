"""What an evaluation found: the `eval` documents of its run folders, and their tables on paper and screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.options import Common
from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.files.json import write_atomically
from sightline.jobs.benchmark_items import BenchmarkItems
from sightline.jobs.evaluate import Plan, Spec
from sightline.runs.folder import Record, Run

if TYPE_CHECKING:
    from sightline.benchmarks.base import Parser, Verdict

PARTS = ("splits", "subtasks")
"""Fields of a score document with a document a part."""

BESIDE = ("n", "failed", "seconds_per_item", "unparsed")
"""Numbers of a method's document that have a column of their own."""

RARE = ("missing", "incomplete", "mixed_pairs", "unknown")
"""Counts that are nearly always 0."""


def documents(plan: Plan, runs: Sequence[Run], common: Common, parser: Parser) -> list[dict[str, Any]]:
    """An `eval` document a model and benchmark. InputError where not one item of one of them was answered."""
    from sightline.benchmarks.compare import adjust

    found: list[dict[str, Any]] = []
    for asked, run in zip(plan.benches, runs, strict=True):
        records = {record.key: record for record in run.all_records()}
        found += [_document(plan, asked, run.folder, records, model, common, parser) for model in plan.models]
    adjust(found)
    return found


def _document(
    plan: Plan,
    asked: BenchmarkItems,
    folder: Path,
    records: Mapping[tuple[str, str, str], Record],
    model: str,
    common: Common,
    parser: Parser,
) -> dict[str, Any]:
    from sightline.benchmarks.compare import compare

    bench, items = asked.bench, asked.items
    names = asked.ids
    judgements: dict[str, dict[str, Verdict]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for spec in plan.specs:
        lines = [records[model, spec.name, name] for name in names]
        judgements[spec.label], methods[spec.label] = _scored(asked, spec, lines, common.seed, parser)
    if names and not any(judgements.values()):
        error = next(record.error for record in records.values() if record.model == model and record.error)
        raise InputError(f"Not one of {len(names)} items of {bench.name} could be asked on {model}; the first: {error}")
    first, *others = plan.specs
    paired = [
        {"a": first.label, "b": spec.label}
        | compare(bench, items, judgements[first.label], judgements[spec.label], seed=common.seed).to_dict()
        for spec in others
    ]
    answered = [name for name in names if all(name in judgements[spec.label] for spec in plan.specs)]
    return {
        "model": model,
        "bench": bench.name,
        "n": len(names),
        "answered_by_all": len(answered),
        "headline": bench.headline,
        "better": bench.better,
        "methods": methods,
        "paired": paired,
        "parser": parser,
        "new_tokens": plan.longest_answer(asked),
        "seed": common.seed,
        "items": {"asked": len(names), "of": len(asked.loaded) + len(asked.bad)},
        "fields": asked.fields,
        "path": None if asked.path is None else str(asked.path),
        "answers": str(folder / "samples.jsonl"),
    }


def _scored(
    asked: BenchmarkItems, spec: Spec, records: Sequence[Record], seed: int, parser: Parser
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """The judgements of one method's answers, and its score document."""
    from sightline.benchmarks.compare import intervals

    bench = asked.bench
    items = {item.id: item for item in asked.items}
    answers = {
        record.id: str(record.result["response"])
        for record in records
        if record.result is not None and record.id in items
    }
    judgements = {name: bench.verdict(items[name], answer, parser) for name, answer in answers.items()}
    known = {bench.headline: (None, None), **intervals(bench, asked.items, judgements, seed=seed)}
    seconds = [record.seconds for record in records if record.id in answers]
    answered = [item for item in asked.items if item.id in judgements]
    return judgements, {
        **bench.score(answered, judgements),
        **{f"{name}_ci95": interval and list(interval) for name, (_, interval) in known.items()},
        "failed": len(records) - len(answers),
        "seconds_per_item": sum(seconds) / len(seconds) if seconds else None,
        "method": spec.name,
    }


def together(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The command's document: the only one, or all under "evaluations"."""
    return dict(found[0]) if len(found) == 1 else {"evaluations": list(found)}


def failures(plan: Plan, runs: Sequence[Run]) -> list[Record]:
    """The lines of the asked items that ended with an error."""
    found = []
    for asked, run in zip(plan.benches, runs, strict=True):
        wanted = set(asked.ids)
        specs = {spec.name for spec in plan.specs}
        found += [
            record
            for record in run.all_records()
            if record.error is not None
            and record.id in wanted
            and record.method in specs
            and record.model in plan.models
        ]
    return found


# Tables -------------------------------------------------------------------------------------------------------------


def show(output: Output, found: Sequence[dict[str, Any]]) -> None:
    """A table of scores, of parts where there are several, and of differences, a benchmark at a time."""
    for document in found:
        output.text(_heading(document))
        columns, rows = score_table(document)
        output.table("Scores (95% interval)", columns, rows)
        columns, rows = part_table(document)
        if rows:
            output.table(_words(_part_figure(document) or ""), columns, rows)
        columns, rows = paired_table(document)
        if rows:
            output.table(f"Against {document['paired'][0]['a']}", columns, rows)


def _heading(document: Mapping[str, Any]) -> str:
    which = "; smaller is better" if document["better"] == "smaller" else ""
    return f"{document['model']} on {document['bench']}: {_share(document)}, {document['parser']} parser{which}"


def _share(document: Mapping[str, Any]) -> str:
    asked, total = document["items"]["asked"], document["items"]["of"]
    return f"{asked} items" if asked >= total else f"{asked} of {total} items"


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Columns and rows."""


def score_table(document: Mapping[str, Any]) -> Table:
    """A method a row, the headline first; intervals, where there are some, behind their figures."""
    methods = document["methods"]
    first = next(iter(methods.values()))
    known = [name for name, value in first.items() if (value is None or _is_number(value)) and not _is_interval(name)]
    shown = [name for name in known if name not in BESIDE and _is_worth(name, methods.values())]
    names = sorted(shown, key=lambda name: (name != document["headline"], f"{name}_ci95" not in first))
    columns = ("method", *map(_words, names), "answered", "unparsed", "failed", "s/item")
    rows = [
        (
            label,
            *(_with_bounds(told.get(name), told.get(f"{name}_ci95")) for name in names),
            str(told["n"]),
            str(told.get("unparsed", "-")),
            str(told["failed"]),
            figure(told["seconds_per_item"]),
        )
        for label, told in methods.items()
    ]
    return columns, rows


def part_table(document: Mapping[str, Any]) -> Table:
    """A split or subtask a row, a method a column; no row where there is but one part."""
    name = _part_figure(document)
    parts = {label: _parts(told) for label, told in document["methods"].items()}
    known = list(dict.fromkeys(part for of in parts.values() for part in of))
    if name is None or len(known) < 2:
        return (), []
    rows = [(part, *(figure(of.get(part, {}).get(name)) for of in parts.values())) for part in known]
    return ("", *parts), rows


def _parts(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((told[name] for name in PARTS if told.get(name)), {})


def _part_figure(document: Mapping[str, Any]) -> str | None:
    """The headline where parts have it, else what they call their score."""
    first = [part for told in document["methods"].values() for part in _parts(told).values()]
    return next((name for name in (document["headline"], "score", "accuracy") if first and name in first[0]), None)


def paired_table(document: Mapping[str, Any]) -> Table:
    """A row a compared method and figure; test and flips beside the headline."""
    columns = ("method", "figure", "delta", "95% interval", "McNemar p", "right before only", "right now only", "items")
    rows: list[tuple[str, ...]] = []
    for pair in document["paired"]:
        for name, told in (pair["figures"] or {document["headline"]: pair}).items():
            is_main = name == document["headline"]
            left_out = f" ({pair['missing']} left out)" if pair["missing"] else ""
            beside = (_p_value(pair), *map(str, pair["flips"]), f"{pair['n']}{left_out}")
            change = (figure(told["delta"], is_signed=True), _interval(told["ci95"], is_signed=True))
            rows.append((pair["b"] if is_main else "", _words(name), *change, *(beside if is_main else [""] * 4)))
    return columns, rows


def _p_value(pair: Mapping[str, Any]) -> str:
    """With Holm's adjustment where there are several comparisons."""
    adjusted = pair.get("p_holm", pair["p_value"])
    plain = f"{pair['p_value']:.3g}"
    return plain if adjusted == pair["p_value"] else f"{plain} (Holm {adjusted:.3g})"


def write_tables(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """table.csv, with plain numbers, a row a model, benchmark and method; and table.md, as on the screen."""
    lines = []
    for document in found:
        first = document["paired"][0]["a"] if document["paired"] else None
        pairs = {pair["b"]: pair for pair in document["paired"]}
        for label, told in document["methods"].items():
            numbers: dict[str, Any] = {}
            for name, value in told.items():
                if _is_interval(name):
                    low, high = value or (None, None)
                    numbers |= {name.replace("_ci95", "_low"): low, name.replace("_ci95", "_high"): high}
                elif value is None or _is_number(value):
                    numbers[name] = value
            pair = pairs.get(label, {})
            below, above = pair.get("ci95") or (None, None)
            numbers |= {"against": first if pair else None, "delta": pair.get("delta")}
            numbers |= {"delta_low": below, "delta_high": above, "p_value": pair.get("p_value")}
            lines.append({"model": document["model"], "bench": document["bench"], "method": label} | numbers)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(folder / "table.csv", text.getvalue().rstrip("\n"))
    write_atomically(folder / "table.md", "\n\n".join(_markdown(document) for document in found))


def _markdown(document: Mapping[str, Any]) -> str:
    title = f"## {_heading(document)}"
    tables = [score_table(document), part_table(document), paired_table(document)]
    return "\n\n".join([title, *(_markdown_table(columns, rows) for columns, rows in tables if rows)])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (columns, ruler, *rows)
    )


def figure(value: float | None, is_signed: bool = False) -> str:
    """A score for a table: shares with three digits, larger numbers with one."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    sign = "+" if is_signed else ""
    return f"{value:{sign}.3f}" if abs(value) <= 2 else f"{value:{sign}.1f}"


def _interval(bounds: Sequence[float] | None, is_signed: bool = False) -> str:
    return "-" if bounds is None else f"{figure(bounds[0], is_signed)} to {figure(bounds[1], is_signed)}"


def _with_bounds(value: float | None, bounds: Sequence[float] | None) -> str:
    return figure(value) if bounds is None else f"{figure(value)} ({_interval(bounds)})"


def _is_worth(name: str, methods: Iterable[Mapping[str, Any]]) -> bool:
    """A count of something wrong has its column only where there is some."""
    return name not in RARE or any(told.get(name) for told in methods)


def _is_interval(name: str) -> bool:
    return name.endswith("_ci95")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: str) -> str:
    return name.replace("_", " ")
