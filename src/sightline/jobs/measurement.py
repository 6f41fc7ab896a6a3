"""What a measurement found: each model under each method over all samples, on each query set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import json_text, plain, write_atomically
from sightline.jobs.measured import Measured
from sightline.jobs.paired import compare_measured
from sightline.pages.figures import by_layer, by_stage, dominance_figures
from sightline.pages.tables.measure import by_table, label, sections
from sightline.probes.dominance.masses import SampleDominance
from sightline.probes.dominance.published import beside_published
from sightline.probes.dominance.result import DominanceResult, aggregate
from sightline.results.result import Result, frame_of
from sightline.results.style import axes_of, look
from sightline.runs.folder import SUMMARY_FILE, Run
from sightline.runs.records import Record, Records, damaged

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.jobs.measurement_plan import MeasurementPlan
    from sightline.probes.dominance.stages import Scheme
    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Measurement(Result):
    """What `measure` found.

    measured   by query set and model, and for each by method, the model as it is first
    methods    how many each model has
    published  the name of the published figures that stand beside, if some do
    by_field   of the data, by which the document has the stages too
    failed     the records of samples that could not be measured
    folder     the run folder, if there is one; with several query sets it holds a run folder of each
    runs       the records behind it, of each query set
    is_main    False in a process whose run another process has summed up
    """

    measured: tuple[Measured, ...]
    methods: int = 1
    published: str | None = None
    by_field: str | None = None
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    runs: tuple[Records, ...] = field(default=(), repr=False, compare=False)
    is_main: bool = field(default=True, repr=False)

    @classmethod
    def together(cls, parts: Sequence[Measurement], folder: Path | None) -> Measurement:
        """Several query sets side by side."""
        return replace(
            parts[0],
            measured=tuple(each for part in parts for each in part.measured),
            failed=tuple(record for part in parts for record in part.failed),
            runs=tuple(run for part in parts for run in part.runs),
            is_main=all(part.is_main for part in parts),
            folder=folder,
        )

    @property
    def query_sets(self) -> dict[str, Measurement]:
        """The part of each query set, in their order."""
        names = dict.fromkeys(each.result.queries for each in self.measured)
        runs: list[tuple[Records, ...]] = [(run,) for run in self.runs] or [()] * len(names)
        return {
            name: replace(self, measured=tuple(each for each in self.measured if each.result.queries == name), runs=run)
            for name, run in zip(names, runs, strict=True)
        }

    @property
    def result(self) -> DominanceResult:
        """Of the only model and query set, with the method where there is one."""
        if len(self.measured) > self.methods:
            raise InputError("Several models or query sets were measured: take one of `measured`.")
        return self.measured[-1].result

    def documents(self) -> dict[str, dict[str, Any]]:
        """One a query set, model and method, by the name of its line in a figure."""
        has_sets = len(self.query_sets) > 1
        found = [each.document() for each in self.measured]
        return {label(each) + (f", {each['queries']}" if has_sets else ""): each for each in found}

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document.

        One model: its `measure` document, with a method that of the method, and the one without under "baseline".
        Several models: {"models": [such documents]}. Several query sets: {"queries": {query set: its document}}.
        """
        sets = self.query_sets
        if len(sets) > 1:
            return {"queries": {name: each.to_dict() for name, each in sets.items()}}
        found: list[dict[str, Any]] = []
        for start in range(0, len(self.measured), self.methods):
            *before, main = self.measured[start : start + self.methods]
            document = main.document() | ({"baseline": before[0].document()} if before else {})
            if self.published is not None:
                document["published"] = beside_published(main.result, self.published)
            if self.by_field is not None:
                parts = main.parts(self.by_field).items()
                values = {value: {"n": len(part.ids), "stages": part.result.stages()} for value, part in parts}
                document["by"] = {"field": self.by_field, "values": values}
            found.append(plain(document))
        return found[0] if len(found) == 1 else {"models": found}

    def entries(self) -> list[dict[str, Any]]:
        """A row a sample, layer and metric (mdi, aei, the masses), for each query set, model and method."""
        return [row for each in self.measured for row in each.rows()]

    def by(self, name: str) -> pd.DataFrame:
        """The stages by a field of the data: a row a value, stage and metric, with 95% bootstrap intervals.

        Columns: the field, n, model, method, queries, stage, metric, value, ci_low, ci_high. Each interval is over the
        samples of that value alone.

        Raises InputError where no sample has the field, with those that there are.
        """
        return frame_of(
            [
                {name: value, "n": len(part.ids), "model": part.model, "method": part.method}
                | {"queries": part.result.queries, "stage": stage, "metric": metric, "value": found.mean}
                | dict(zip(("ci_low", "ci_high"), found.ci95 or (None, None), strict=True))
                for each in self.measured
                for value, part in each.parts(name).items()
                for stage, figures in part.result.stage_figures.items()
                for metric, found in figures.items()
            ]
        )

    def draw(self, folder: Path) -> None:
        """MDI by layer and by stage, as PNG and SVG."""
        dominance_figures(self.documents(), folder)

    def sections(self) -> list[Section]:
        """As tables, with the answer of a single sample."""
        sets = self.query_sets
        if len(sets) > 1:
            return [section for each in sets.values() for section in each.sections()]
        whole = self.to_dict()
        tables = [by_table(document) for document in whole.get("models", [whole]) if "by" in document]
        return [*sections(list(self.documents().values()), whole), *tables]

    def plot(
        self,
        ax: Any = None,
        *,
        metric: str = "mdi",
        by: str = "layer",
        style: Style = "paper",
        width: Width = "column",
    ) -> Axes:
        """An index with its 95% interval, a line or bar a model, method and query set; see `sl.save_figure`.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            metric: "mdi", "aei", "mdi_no_sinks", "text_mass", ...
            by: "layer", "stage", or a field of the data: then a line by layer for each of its values.
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        documents = self.documents()
        if by not in ("layer", "stage"):
            has_one = len(self.measured) == 1
            documents = {
                value if has_one else f"{name}, {value}": part.document()
                for name, each in zip(documents, self.measured, strict=True)
                for value, part in each.parts(by).items()
            }
        with look(style):
            drawn = by_stage if by == "stage" else by_layer
            return drawn(documents, axes_of(ax, width), metric)

    def compare(self, other: Measurement | None = None, *, metric: str = "mdi", seed: int = 0) -> pd.DataFrame:
        """Paired by id, stage by stage, with intervals and Holm (see `sightline.jobs.paired.compare_measured`).

        other: its query sets, models and methods against the same of this one, in their order. Without it, the first of
        this one against each of the others: two models, a model without and with its method, two query sets.
        """
        if other is None:
            pairs = [(self.measured[0], each) for each in self.measured[1:]]
        else:
            pairs = list(zip(self.measured, other.measured, strict=False))
        if not pairs:
            raise InputError("One model under one method has nothing to be compared with: give another measurement.")
        return compare_measured(pairs, metric, seed)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder, or one for each query set below it; InputError where another run is there."""
        place, sets = Path(folder), self.query_sets
        if not self.runs:
            raise InputError("This measurement was put together by hand and has no records to save.")
        for name, part in sets.items():
            (run,) = part.runs
            info = {"published": self.published, "by": self.by_field, "stages": part.measured[0].result.scheme}
            info |= {"batches": run.info["batches"]} if "batches" in run.info else {}
            with Run.open(place / name if len(sets) > 1 else place, "measure", run.settings, info=info) as kept:
                kept.take(run.all_records())
                kept.finish(part.to_dict())
        if len(sets) > 1:
            write_atomically(place / SUMMARY_FILE, json_text(self.to_dict(), indent=2))
        self.draw(place / "figures")
        return place


def measurement_of(plan: MeasurementPlan, run: Records, folder: Path | None) -> Measurement:
    """The results of what the run holds, over the plan's samples in their order.

    Raises InputError when not one sample of a model and method was measured, with the first sample's error.
    """
    records = {record.key: record for record in run.all_records()}
    wanted = [
        [records[model.name, spec.name, sample.id] for sample in plan.data.samples]
        for model in plan.models
        for spec in plan.specs
    ]
    measured = (measured_of(of, plan.query_set, plan.settings.stages) for of in wanted)
    return Measurement(
        tuple(replace(each, batch_size=run.batch_size(each.model)) for each in measured),
        len(plan.specs),
        plan.settings.published,
        plan.settings.by,
        tuple(record for of in wanted for record in of if record.error is not None),
        folder,
        (run,),
    )


def measured_of(records: Sequence[Record], queries: str, stages: Scheme) -> Measured:
    """One model under one method, of its records; InputError, with the first error, where not one ended well."""
    model, method = records[0].model, records[0].method
    good = [record for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} samples could be measured on {model}; the first: {records[0].error}"
        )
    samples: list[SampleDominance] = []
    texts: list[str | None] = []
    about: list[Mapping[str, Any]] = []
    effects: list[float | None] = []
    for record in good:
        try:
            result = dict(record.result or {})
            samples.append(SampleDominance.from_dict(result["dominance"]))
            texts.append(result["text"])
            about.append(dict(result.get("about") or {}))
            effects.append(None if result.get("effect") is None else float(result["effect"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(record) from error
    found = aggregate(samples, model=model, queries=queries, stages=stages, failed=len(records) - len(good))
    ids = tuple(record.id for record in good)
    return Measured(model, method, found, ids, tuple(texts), tuple(about), tuple(effects))
