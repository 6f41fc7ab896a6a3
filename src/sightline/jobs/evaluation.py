"""What an evaluation found: each model's answers to each benchmark, scored and compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import plain
from sightline.runs.records import Record, Records

if TYPE_CHECKING:
    import pandas as pd

    from sightline.benchmarks.base import Verdict
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.jobs.evaluation_plan import EvaluationPlan
    from sightline.jobs.methods import MethodSpec
    from sightline.pages.tables.table import Section

Answers = Mapping[str, Record]
"""By item id."""


@dataclass(frozen=True)
class BenchmarkScore:
    """One model on one benchmark under every method.

    document   as the command prints it
    items      the benchmark and what was asked of it
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
                "answer": None if record.result is None else record.result["response"],
                "value": None if item.id not in verdicts else float(verdicts[item.id].right),
                "metric": "right",
                "bench": self.items.name,
                "group": item.group,
                "truth": item.truth,
                "parsed": None if item.id not in verdicts else verdicts[item.id].parsed,
                "error": record.error,
            }
            for method, verdicts in self.verdicts.items()
            for item in self.items.items
            for record in (self.answers[method][item.id],)
        ]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    scores   one for each benchmark and model
    failed   the records of items that could not be answered
    folder   the run folder, if there is one
    is_main  False in a process whose run another process has summed up
    """

    scores: tuple[BenchmarkScore, ...]
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    is_main: bool = field(default=True, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document: of the only benchmark and model, or all under "evaluations"."""
        found: list[dict[str, Any]] = [plain(score.document) for score in self.scores]
        return found[0] if len(found) == 1 else {"evaluations": found}

    def to_pandas(self) -> pd.DataFrame:
        """Long form, a row an item, method and model: value is 1 for a right answer, 0 for a wrong one."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame([row for score in self.scores for row in score.rows()])
        return frame

    def lines_files(self) -> list[Path]:
        """The files of raw answers."""
        folders = dict.fromkeys(score.folder for score in self.scores if score.folder is not None)
        return [path for folder in folders for path in sorted(folder.glob("samples*.jsonl"))]

    def in_folder(self, folder: Path) -> Evaluation:
        """The part that one of its run folders holds."""
        return replace(self, scores=tuple(score for score in self.scores if score.folder == folder))

    def of_another_process(self) -> Evaluation:
        """The same, where another process has summed the run up."""
        return replace(self, is_main=False)

    def __str__(self) -> str:
        from sightline.pages.tables.plain import plain_text

        return plain_text(self.sections())

    def _repr_html_(self) -> str:
        from sightline.pages.tables.plain import html_text

        return html_text(self.sections())

    def sections(self) -> list[Section]:
        """As tables."""
        from sightline.pages.tables.evaluate import sections

        return sections([score.document for score in self.scores])


def evaluation_of(plan: EvaluationPlan, runs: Sequence[Records], folder: Path | None) -> Evaluation:
    """The scores of what the runs hold. InputError where not one item of a benchmark was answered."""
    from sightline.benchmarks.compare import adjust

    scores: list[BenchmarkScore] = []
    failed: list[Record] = []
    for items, run in zip(plan.benches, runs, strict=True):
        records = {record.key: record for record in run.all_records()}
        for model in plan.models:
            lines = {
                spec.label: {name: records[model.name, spec.name, name] for name in items.ids} for spec in plan.specs
            }
            scores.append(_score(plan, items, run.folder, model.name, lines))
        failed += [
            record
            for record in records.values()
            if record.error is not None
            and record.id in set(items.ids)
            and record.method in {spec.name for spec in plan.specs}
            and record.model in {model.name for model in plan.models}
        ]
    adjust([score.document for score in scores])
    return Evaluation(tuple(scores), tuple(failed), folder)


def _score(
    plan: EvaluationPlan, items: BenchmarkItems, folder: Path | None, model: str, lines: Mapping[str, Answers]
) -> BenchmarkScore:
    from sightline.benchmarks.compare import compare

    bench, names, seed = items.bench, items.ids, plan.settings.seed
    verdicts: dict[str, dict[str, Verdict]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for spec in plan.specs:
        verdicts[spec.label], methods[spec.label] = _of_method(plan, items, spec, list(lines[spec.label].values()))
    if names and not any(verdicts.values()):
        error = next(record.error for of in lines.values() for record in of.values() if record.error)
        raise InputError(f"Not one of {len(names)} items of {bench.name} could be asked on {model}; the first: {error}")
    first, *others = plan.specs
    paired = [
        {"a": first.label, "b": spec.label}
        | compare(bench, items.items, verdicts[first.label], verdicts[spec.label], seed=seed).to_dict()
        for spec in others
    ]
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
        "seed": seed,
        "items": {"asked": len(names), "of": len(items.loaded) + len(items.bad)},
        "fields": items.fields,
        "path": None if items.path is None else str(items.path),
        "answers": None if folder is None else str(folder / "samples.jsonl"),
    }
    return BenchmarkScore(document, items, verdicts, lines, folder)


def _of_method(
    plan: EvaluationPlan, items: BenchmarkItems, spec: MethodSpec, records: Sequence[Record]
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """The verdicts on one method's answers, and its score document."""
    from sightline.benchmarks.compare import intervals

    bench = items.bench
    by_id = {item.id: item for item in items.items}
    answers = {
        record.id: str(record.result["response"])
        for record in records
        if record.result is not None and record.id in by_id
    }
    verdicts = {name: bench.verdict(by_id[name], answer, plan.parser) for name, answer in answers.items()}
    known = {bench.headline: (None, None), **intervals(bench, items.items, verdicts, seed=plan.settings.seed)}
    seconds = [record.seconds for record in records if record.id in answers]
    answered = [item for item in items.items if item.id in verdicts]
    return verdicts, {
        **bench.score(answered, verdicts),
        **{f"{name}_ci95": interval and list(interval) for name, (_, interval) in known.items()},
        "failed": len(records) - len(answers),
        "seconds_per_item": sum(seconds) / len(seconds) if seconds else None,
        "method": spec.name,
    }
