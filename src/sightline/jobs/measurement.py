"""What a measurement found: each model under each method over all samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import plain
from sightline.jobs.measured import Measured
from sightline.results.result import Result
from sightline.runs.folder import Run
from sightline.runs.records import Record, Records, damaged

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.jobs.measurement_plan import MeasurementPlan
    from sightline.probes.dominance import DominanceResult
    from sightline.probes.dominance.stages import Scheme
    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Measurement(Result):
    """What `measure` found.

    measured   by model, and for each by method, the model as it is first
    methods    how many each model has
    published  the name of the published figures that stand beside, if some do
    failed     the records of samples that could not be measured
    folder     the run folder, if there is one
    run        the records behind it
    is_main    False in a process whose run another process has summed up
    """

    measured: tuple[Measured, ...]
    methods: int = 1
    published: str | None = None
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    run: Records | None = field(default=None, repr=False, compare=False)
    is_main: bool = field(default=True, repr=False)

    @property
    def result(self) -> DominanceResult:
        """Of the only model, with the method where there is one."""
        if len(self.measured) > self.methods:
            raise InputError("Several models were measured: take one of `measured`.")
        return self.measured[-1].result

    def documents(self) -> list[dict[str, Any]]:
        """One a model and method."""
        return [each.document() for each in self.measured]

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document.

        One model: its `measure` document, with a method that of the method, and the one without under "baseline".
        Several models: {"models": [such documents]}.
        """
        found: list[dict[str, Any]] = []
        for start in range(0, len(self.measured), self.methods):
            *before, main = self.measured[start : start + self.methods]
            document = main.document() | ({"baseline": before[0].document()} if before else {})
            if self.published is not None:
                from sightline.probes.dominance import compare

                document["published"] = compare(main.result, self.published)
            found.append(plain(document))
        return found[0] if len(found) == 1 else {"models": found}

    def to_pandas(self) -> pd.DataFrame:
        """Long form, a row a sample, layer and metric (mdi, aei, the masses), for each model and method."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame([row for each in self.measured for row in each.rows()])
        return frame

    def draw(self, folder: Path) -> None:
        """MDI by layer and by stage, as PNG and SVG."""
        from sightline.pages.figures import dominance_figures
        from sightline.pages.tables.measure import label

        dominance_figures({label(document): document for document in self.documents()}, folder)

    def sections(self) -> list[Section]:
        """As tables, with the answer of a single sample."""
        from sightline.pages.tables.measure import sections

        return sections(self.documents(), self.to_dict())

    def plot(
        self,
        ax: Any = None,
        *,
        metric: str = "mdi",
        by: str = "layer",
        style: Style = "paper",
        width: Width = "column",
    ) -> Axes:
        """An index with its 95% interval, a line or bar a model and method; `sl.save_figure` writes what it returns.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            metric: "mdi", "aei", "mdi_no_sinks", "text_mass", ...
            by: "layer" or "stage".
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        from sightline.pages.figures import by_layer, by_stage
        from sightline.pages.tables.measure import label
        from sightline.results.style import axes_of, look

        drawn = {"layer": by_layer, "stage": by_stage}
        if by not in drawn:
            raise InputError(f"There is no figure by {by!r}: give {' or '.join(drawn)}.")
        with look(style):
            documents = {label(document): document for document in self.documents()}
            return drawn[by](documents, axes_of(ax, width), metric)

    def compare(self, other: Measurement | None = None, *, metric: str = "mdi", seed: int = 0) -> pd.DataFrame:
        """Paired by id, stage by stage, with intervals and Holm (see `sightline.jobs.paired.compare_measured`).

        other: its models and methods against the same of this one, in their order. Without it, the first of this one
        against each of the others: two models, or a model without and with its method.
        """
        from sightline.jobs.paired import compare_measured

        if other is None:
            pairs = [(self.measured[0], each) for each in self.measured[1:]]
        else:
            pairs = list(zip(self.measured, other.measured, strict=False))
        if not pairs:
            raise InputError("One model under one method has nothing to be compared with: give another measurement.")
        return compare_measured(pairs, metric, seed)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder, which `sl.read_run` and `sl.report` read; InputError where another run is there."""
        if self.run is None:
            raise InputError("This measurement was put together by hand and has no records to save.")
        with Run.open(folder, "measure", self.run.settings) as kept:
            kept.take(self.run.all_records())
            kept.finish(self.to_dict())
        self.draw(Path(folder) / "figures")
        return Path(folder)


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
    return Measurement(
        tuple(measured_of(of, plan.settings.queries, plan.settings.stages) for of in wanted),
        len(plan.specs),
        plan.settings.published,
        tuple(record for of in wanted for record in of if record.error is not None),
        folder,
        run,
    )


def measured_of(records: Sequence[Record], queries: str, stages: Scheme) -> Measured:
    """One model under one method, of its records; InputError, with the first error, where not one ended well."""
    from sightline.probes.dominance import SampleDominance, aggregate

    model, method = records[0].model, records[0].method
    good = [record for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} samples could be measured on {model}; the first: {records[0].error}"
        )
    samples: list[SampleDominance] = []
    texts: list[str | None] = []
    for record in good:
        try:
            result = dict(record.result or {})
            samples.append(SampleDominance.from_dict(result["dominance"]))
            texts.append(result["text"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(record) from error
    found = aggregate(
        samples,
        model=model,
        queries=queries,
        stages=stages,
        failed=len(records) - len(good),
    )
    return Measured(model, method, found, tuple(record.id for record in good), tuple(texts))
