"""One model on one benchmark under every method: the answers' verdicts, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.compare import compare_verdicts, intervals
from sightline.benchmarks.tilt import tilt_of
from sightline.errors import InputError
from sightline.jobs.blind import earned
from sightline.jobs.by_field import scores_by
from sightline.jobs.time_ratio import time_ratio
from sightline.runs.records import Record, Records, damaged

if TYPE_CHECKING:
    from sightline.benchmarks.base import Verdict
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.jobs.evaluation_plan import EvaluationPlan
    from sightline.jobs.methods import MethodSpec

Answers = Mapping[str, Record]
"""By item id."""


@dataclass(frozen=True)
class BenchmarkScore:
    """One model on one benchmark under every method.

    document   as the command prints it
    items      the benchmark and its items
    verdicts   by method as it was written, then by item id; failed items have none
    answers    the records, by method and item id
    folder     the run folder, if there is one
    """

    document: dict[str, Any]
    items: BenchmarkItems = field(repr=False)
    verdicts: Mapping[str, Mapping[str, Verdict]] = field(repr=False)
    answers: Mapping[str, Answers] = field(repr=False)
    folder: Path | None = None

    @property
    def model(self) -> str:
        """As it was named."""
        return str(self.document["model"])

    def about(self) -> dict[str, Any]:
        """What a run folder keeps beside its settings, so that the items are found again."""
        items = self.items
        return {
            "models": [self.model],
            "methods": [str(each["method"]) for each in self.document["methods"].values()],
            "path": items.path,
            "fields": items.fields,
            "items": len(items.ids),
            "limit": len(items.items),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Long form: a row an item and method, in the benchmark's order."""
        return [
            {
                "id": item.id,
                "model": self.model,
                "method": method,
                "layer": None,
                "stage": None,
                "head": None,
                "image": None,
                "answer": None if record.result is None else _response(record),
                "value": None if item.id not in verdicts else float(verdicts[item.id].right),
                "metric": "right",
                "bench": self.items.name,
                "group": item.group,
                "truth": item.truth,
                "parsed": None if item.id not in verdicts else verdicts[item.id].parsed,
                "error": record.error,
            }
            | {name: value for name, value in item.fields.items() if name not in RESERVED}
            for method, verdicts in self.verdicts.items()
            for item in self.items.items
            for record in (self.answers[method][item.id],)
        ]

    def rows_by(self, name: str) -> list[dict[str, Any]]:
        """A row a value of a field of the items, method and figure, with its interval."""
        found = scores_by(self.items, self.verdicts, name, int(self.document["seed"]))
        return [
            {name: value, "n": part["n"], "model": self.model, "bench": self.items.name, "method": method}
            | {"metric": metric, "value": part[metric], "ci_low": low, "ci_high": high}
            for method, parts in found["methods"].items()
            for value, part in parts.items()
            for metric in part
            if f"{metric}_ci95" in part
            for low, high in [part[f"{metric}_ci95"] or (None, None)]
        ]


RESERVED = ("id", "model", "method", "layer", "stage", "head", "image", "answer", "value", "metric", "bench", "error")
"""Columns of the table that no field of an item replaces."""


def score_of(
    plan: EvaluationPlan, items: BenchmarkItems, run: Records, model: str, lines: Mapping[str, Answers]
) -> BenchmarkScore:
    bench, names, seed = items.bench, items.ids, plan.settings.seed
    verdicts: dict[str, dict[str, Verdict]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for spec in plan.specs:
        verdicts[spec.label], methods[spec.label] = _of_method(plan, items, spec, list(lines[spec.label].values()))
    if names and not any(verdicts.values()):
        error = next(record.error for of in lines.values() for record in of.values() if record.error)
        raise InputError(f"Not one of {len(names)} items of {bench.name} could be asked on {model}; the first: {error}")
    first, *others = plan.specs
    for spec in plan.specs:
        methods[spec.label] |= _times(lines[first.label], lines[spec.label], run.batch_size(model) != 1, seed)
    paired = [
        {"a": first.label, "b": spec.label}
        | compare_verdicts(bench, items.items, verdicts[first.label], verdicts[spec.label], seed=seed).to_dict()
        | {"tilt": tilt_of(items.items, verdicts[first.label], verdicts[spec.label])}
        for spec in others
    ]
    folder = run.folder
    answered = [name for name in names if all(name in verdicts[spec.label] for spec in plan.specs)]
    document = {
        "model": model,
        "bench": bench.name,
        "n": len(names),
        "answered_by_all": len(answered),
        "headline": bench.headline,
        "better": bench.better,
        "methods": methods,
        "paired": paired,
        "parser": plan.parser,
        "new_tokens": plan.longest_answer(items),
        "batch_size": run.batch_size(model),
        "seed": seed,
        "items": {"asked": len(names), "of": len(items.loaded) + len(items.bad)},
        "fields": items.fields,
        "path": None if items.path is None else str(items.path),
        "answers": None if folder is None else str(folder / "samples.jsonl"),
    }
    if any(spec.view for spec in plan.specs):
        document["blind"] = earned(document)
    found = bench.frontier(
        items.items, verdicts[first.label], {spec.label: verdicts[spec.label] for spec in others}, seed
    )
    if others and found is not None:
        document["frontier"] = found
    if plan.settings.by is not None:
        document["by"] = scores_by(items, verdicts, plan.settings.by, seed)
    return BenchmarkScore(document, items, verdicts, lines, folder)


def _of_method(
    plan: EvaluationPlan, items: BenchmarkItems, spec: MethodSpec, records: Sequence[Record]
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """The verdicts on one method's answers, and its score document."""
    bench = items.bench
    by_id = {item.id: item for item in items.items}
    answers = {record.id: _response(record) for record in records if record.result is not None and record.id in by_id}
    verdicts = {name: bench.verdict(by_id[name], answer, plan.parser) for name, answer in answers.items()}
    known = {bench.headline: (None, None), **intervals(bench, items.items, verdicts, seed=plan.settings.seed)}
    seconds = [record.seconds for record in records if record.id in answers]
    answered = [item for item in items.items if item.id in verdicts]
    return verdicts, {
        **bench.score(answered, verdicts),
        **{f"{name}_ci95": interval and list(interval) for name, (_, interval) in known.items()},
        "at_limit": _at_limit([record for record in records if record.id in answers], plan.longest_answer(items)),
        "failed": len(records) - len(answers),
        "seconds_per_item": sum(seconds) / len(seconds) if seconds else None,
        "prefill_seconds_per_item": _mean(records, "prefill_seconds"),
        "cache_bytes_per_item": _mean(records, "cache_bytes"),
        "method": spec.name,
    }


def _times(first: Answers, other: Answers, is_batched: bool, seed: int) -> dict[str, Any]:
    """How many times the first method's time, over the items that both answered."""
    if first is other:
        return {"times_the_first": 1.0, "times_the_first_ci95": None}
    before, after = (
        {name: of.seconds for name, of in side.items() if of.result is not None} for side in (first, other)
    )
    ratio, interval = time_ratio(before, after, is_batched, seed)
    return {"times_the_first": ratio, "times_the_first_ci95": interval and list(interval)}


def _mean(records: Sequence[Record], name: str) -> float | None:
    """Over the answers that have such a figure."""
    known = [float(record.result[name]) for record in records if record.result is not None and name in record.result]
    return sum(known) / len(known) if known else None


def _response(record: Record) -> str:
    """The words of an answer; InputError where its line in the run folder is damaged."""
    if record.result is None or "response" not in record.result:
        raise damaged(record)
    return str(record.result["response"])


def _at_limit(records: Sequence[Record], new_tokens: int) -> float | None:
    """The share of answers that are as long as they may be: most of them are cut off."""
    results = [record.result for record in records if record.result is not None]
    known = [result for result in results if isinstance(result.get("tokens"), int)]
    return sum(each["tokens"] >= each.get("limit", new_tokens) for each in known) / len(known) if known else None
