"""`reproduce`: a published table's models, methods and data, ours beside its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import json_text, plain, write_atomically
from sightline.jobs.benchmark_items import find_items, is_bench
from sightline.jobs.evaluate import run_evaluation
from sightline.jobs.evaluation_plan import EvaluateSettings, EvaluationPlan
from sightline.jobs.flows import run_flows
from sightline.jobs.measure import run_measurement
from sightline.jobs.measured import Measured
from sightline.jobs.measurement_plan import MeasurementPlan, MeasureSettings
from sightline.jobs.methods import sinks_of
from sightline.jobs.models import ModelSource
from sightline.jobs.reproduction_plan import ReproduceSettings, ReproductionPlan
from sightline.jobs.settings import ModelSettings, job, settings_of
from sightline.jobs.sources import find_data
from sightline.pages.tables.reproduce import sections
from sightline.probes.dominance.published import beside_published
from sightline.published import Reproduction, find_reproduction
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.runs.folder import SUMMARY_FILE
from sightline.runs.progress import OnProgress
from sightline.runs.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class ReproductionResult(Result):
    """What `reproduce` found.

    document  as the command prints it
    failed    the records of samples that could not be done
    folder    the run folder, if there is one
    is_main   False in a process whose run another process has summed up
    """

    document: dict[str, Any]
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    is_main: bool = field(default=True, repr=False)

    @property
    def beside(self) -> list[dict[str, Any]]:
        """Ours beside the published figures, a row each."""
        return list(self.document["beside"])

    @property
    def deviations(self) -> list[str]:
        """Why this run is not the published one, a sentence each."""
        return list(self.document["deviations"])

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found: dict[str, Any] = plain(self.document)
        return found

    def entries(self) -> list[dict[str, Any]]:
        """A row a published figure: ours as value, with published, difference, source and status."""
        model = self.document.get("model")
        return [{"model": model, "metric": row["figure"], "value": row["ours"], **row} for row in self.beside]

    def sections(self) -> list[Section]:
        """As tables and sentences."""
        return sections(self.to_dict())

    def plot(self, ax: Any = None, *, style: Style = "paper", width: Width = "column") -> Axes:
        """Ours beside the published figures, a row a figure; `sl.save_figure` writes it."""
        rows = [row for row in self.beside if row["ours"] is not None]
        with look(style):
            axes = axes_of(ax, width, max(0.35, 0.09 * len(rows) + 0.15))
            for name, marker in (("ours", "o"), ("published", "D")):
                axes.plot([row[name] for row in rows], range(len(rows)), linestyle="", marker=marker, label=name)
            axes.set_yticks(range(len(rows)), [f"{row['method']}, {row['figure']}" for row in rows])
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.legend()
            return axes


@job(ReproduceSettings)
def reproduce(
    name: str, *, out: str | Path | None = None, on_progress: OnProgress | None = None, **fields: Any
) -> ReproductionResult:
    """Runs what a published table was made by, and holds ours beside the published figures.

    Args:
        name: of the table, see `sightline list reproductions`.
        out: the run folder; an interrupted run in it is continued. Without, nothing is kept but the result.
        on_progress: is called as the run goes on.

    Raises:
        InputError: for an unknown table, and for a model or data that it needs and does not have.
    """
    settings = settings_of(ReproduceSettings, fields)
    plan = ReproductionPlan(find_reproduction(name), settings, sinks_of(settings.sinks))
    plan.validate()
    return ENGINES[plan.table.kind](plan, None if out is None else Path(out), on_progress)


def _shared(plan: ReproductionPlan) -> dict[str, Any]:
    """The settings that a reproduction has in common with the job it is run by."""
    names = [each.name for each in dataclasses.fields(ModelSettings)] + ["sinks", "retry_failed"]
    return {name: getattr(plan.settings, name) for name in names} | {"limit": plan.most}


def _finished(found: ReproductionResult) -> ReproductionResult:
    if found.folder is not None and found.is_main:
        write_atomically(found.folder / SUMMARY_FILE, json_text(found.document, indent=2))
    return found


# MDI and AEI --------------------------------------------------------------------------------------------------------


def _measure(plan: ReproductionPlan, out: Path | None, on_progress: OnProgress | None) -> ReproductionResult:
    table, specs = plan.table, plan.specs()
    data = find_data(plan.source(), limit=plan.most, seed=plan.settings.seed, **plan.fields())
    settings = MeasureSettings(
        queries=table.queries,
        stages=table.stages,  # type: ignore[arg-type]
        new_tokens=table.new_tokens or 32,
        batch_size=plan.settings.batch_size or "auto",
        maps=0,
        **_shared(plan),
    )
    about = {"method": None, "methods": [spec.name for spec in specs], "reproduction": table.name}
    inner = MeasurementPlan((ModelSource(plan.model_name),), data, specs, settings, plan.sinks, about)
    measured = run_measurement(inner, out, on_progress)
    beside = [
        row
        for spec, each in zip(specs, measured.measured, strict=True)
        for row in _beside_measured(table, spec.label, each)
    ]
    total = None if table.bench is None else _total(plan)
    document = plan.document(beside, plan.deviations(len(data.samples), total, len(measured.failed)))
    document["models"] = list(measured.documents().values())
    return _finished(ReproductionResult(document, measured.failed, out, measured.is_main))


def _total(plan: ReproductionPlan) -> int | None:
    """Items there are without a limit; None where the data are no benchmark of the table's."""
    if plan.most is None:
        return None
    if plan.source().partition(":")[0] != plan.table.bench:
        return None
    items = find_items(plan.source(), seed=plan.settings.seed, limit=plan.most, **plan.fields())
    return len(items.loaded) + len(items.bad)


def _beside_measured(table: Reproduction, label: str, measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "method": label,
            "figure": f"{row['stage']} {row['index']}",
            "ours": row["ours"],
            "ours_std": row["ours_std"],
            "published": row["published"],
            "difference": row["difference"],
            "source": entry.source,
            "status": entry.status,
            "note": entry.note or None,
            "lint": row["note"],
        }
        for entry in table.published
        if entry.method == label and entry.row is not None
        for row in beside_published(measured.result, entry.row)
    ]


# Benchmarks ---------------------------------------------------------------------------------------------------------


def _evaluate(plan: ReproductionPlan, out: Path | None, on_progress: OnProgress | None) -> ReproductionResult:
    table, specs = plan.table, plan.specs()
    if not is_bench(plan.source()):
        raise InputError(f"{table.name} asks a benchmark, and {plan.source()} is none: give a path, or another bench.")
    items = find_items(plan.source(), seed=plan.settings.seed, limit=plan.most, **plan.fields())
    # What is drawn depends on who shares a batch, which the free memory must not decide.
    size = 1 if table.temperature is not None and plan.settings.batch_size is None else plan.settings.batch_size
    settings = EvaluateSettings(
        new_tokens=table.new_tokens, batch_size=size or "auto", temperature=table.temperature, **_shared(plan)
    )
    model = ModelSource(plan.model_name)
    inner = EvaluationPlan((model,), (items,), specs, settings, plan.sinks, {"reproduction": table.name})
    evaluated = run_evaluation(inner, out, on_progress)
    scores = evaluated.to_dict()
    deviations = plan.deviations(len(items.ids), len(items.loaded) + len(items.bad), len(evaluated.failed))
    document = scores | plan.document(_beside_scored(table, scores), deviations)
    return _finished(ReproductionResult(document, evaluated.failed, out, evaluated.is_main))


def _beside_scored(table: Reproduction, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for entry in table.published:
        scores = found["methods"][entry.method]
        for name, value in entry.figures.items():
            ours = _figure(scores, name)
            rows.append(
                {
                    "method": entry.method,
                    "figure": name,
                    "ours": ours,
                    "published": value,
                    "difference": None if ours is None else ours - value,
                    "source": entry.source,
                    "status": entry.status,
                    "note": entry.note or None,
                }
            )
    return rows


def _figure(scores: Mapping[str, Any], name: str) -> float | None:
    """ "accuracy", or "random accuracy" of the split or subtask random."""
    part, _, figure = name.rpartition(" ")
    place = scores if not part else {**(scores.get("splits") or {}), **(scores.get("subtasks") or {})}.get(part, {})
    value = place.get(figure)
    return None if value is None else float(value)


def _follow(plan: ReproductionPlan, out: Path | None, on_progress: OnProgress | None) -> ReproductionResult:
    document, failed = run_flows(plan, out, on_progress)
    return _finished(ReproductionResult(document, failed, out))


ENGINES: dict[str, Callable[[ReproductionPlan, Path | None, OnProgress | None], ReproductionResult]] = {
    "measure": _measure,
    "eval": _evaluate,
    "flow": _follow,
}
"""By the kind of a table."""
