"""What a measurement found: each model under each method over all samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import plain
from sightline.runs.records import Record, Records

if TYPE_CHECKING:
    import pandas as pd

    from sightline.jobs.measurement_plan import MeasurementPlan
    from sightline.pages.tables.table import Section
    from sightline.probes.dominance import DominanceResult


@dataclass(frozen=True)
class Measured:
    """One model under one method over all samples.

    method  in full
    result  over the samples that did not fail
    ids     of these samples, in the data's order
    texts   their answers, where some were generated
    """

    model: str
    method: str
    result: DominanceResult
    ids: tuple[str, ...] = field(repr=False)
    texts: tuple[str | None, ...] = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The `measure` document, with the method; and the answer, where there is one sample."""
        extra = {"text": self.texts[0]} if len(self.texts) == 1 else {}
        return self.result.to_dict() | {"method": self.method} | extra

    def rows(self) -> list[dict[str, Any]]:
        """Long form: a row a sample, layer and metric."""
        stages = {layer: stage for stage, layers in self.result.stage_layers.items() for layer in layers}
        table = self.result.to_pandas()
        metrics = [name for name in table.columns if name not in ("sample", "layer")]
        return [
            {
                "id": self.ids[int(row["sample"])],
                "model": self.model,
                "method": self.method,
                "layer": int(row["layer"]),
                "stage": stages.get(int(row["layer"])),
                "head": None,
                "image": None,
                "answer": self.texts[int(row["sample"])],
                "value": row[metric],
                "metric": metric,
                "queries": self.result.queries,
            }
            for row in table.to_dict("records")
            for metric in metrics
        ]


@dataclass(frozen=True)
class Measurement:
    """What `measure` found.

    measured   by model, and for each by method, the model as it is first
    methods    how many each model has
    published  the name of the published figures that stand beside, if some do
    failed     the records of samples that could not be measured
    folder     the run folder, if there is one
    is_main    False in a process whose run another process has summed up
    """

    measured: tuple[Measured, ...]
    methods: int = 1
    published: str | None = None
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
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

    def __str__(self) -> str:
        from sightline.pages.tables.plain import plain_text

        return plain_text(self.sections())

    def _repr_html_(self) -> str:
        from sightline.pages.tables.plain import html_text

        return html_text(self.sections())


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
        tuple(_measured(plan, of) for of in wanted),
        len(plan.specs),
        plan.settings.published,
        tuple(record for of in wanted for record in of if record.error is not None),
        folder,
    )


def _measured(plan: MeasurementPlan, records: Sequence[Record]) -> Measured:
    from sightline.probes.dominance import SampleDominance, aggregate

    model, method = records[0].model, records[0].method
    good = [record for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} samples could be measured on {model}; the first: {records[0].error}"
        )
    results = [record.result or {} for record in good]
    result = aggregate(
        [SampleDominance.from_dict(each["dominance"]) for each in results],
        model=model,
        queries=plan.settings.queries,
        stages=plan.settings.stages,
        failed=len(records) - len(good),
    )
    ids, texts = tuple(record.id for record in good), tuple(each["text"] for each in results)
    return Measured(model, method, result, ids, texts)
