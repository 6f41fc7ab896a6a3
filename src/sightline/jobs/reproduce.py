"""What `reproduce` does: a published table's models, methods and data through the engines of `measure` and `eval`, or
its flows; and the documents of it. A run folder is that of the engine, and is continued like any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.options import Common
from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.jobs import measure as measuring
from sightline.jobs.benchmark_items import BenchmarkItems, find_asked, is_bench
from sightline.jobs.sources import SHAPES, Data, find_data
from sightline.methods.registry import find_method, takes_sinks
from sightline.published import Reproduction
from sightline.runs.folder import Record, Run

if TYPE_CHECKING:
    from sightline.jobs.evaluate import Spec
    from sightline.probes.sinks import Sinks


@dataclass(frozen=True)
class ReproduceSettings:
    """A reproduction as it is asked for; None leaves what its file says.

    data: of a benchmark its path, or another benchmark; else the file. image_list, synonyms: of CHAIR.
    """

    table: Reproduction
    common: Common
    folder: Path
    model: str | None = None
    data: str | None = None
    limit: int | None = None
    sinks: Sinks | None = None
    image_list: Path | None = None
    synonyms: Path | None = None
    batch_size: int | None = None
    layout: Path | None = None
    retry_failed: bool = False

    @property
    def model_name(self) -> str:
        """The model that is run; InputError where none is named anywhere."""
        name = self.model or self.table.model
        if name is None:
            raise InputError(
                f"{self.table.name} has no model of its own that can be loaded by name: give --model with a folder or "
                "hub name in Transformers' own format."
            )
        return name

    @property
    def most(self) -> int | None:
        """Items at most."""
        return self.table.limit if self.limit is None else self.limit

    def source(self) -> str:
        """The data as `--data` of `measure` and `--bench` of `eval` take them."""
        bench = self.table.bench
        if self.data is None:
            if bench is None:
                raise InputError(f"{self.table.name} needs --data. {self.table.data}")
            return bench
        if bench is None or (self.table.kind == "measure" and Path(self.data).suffix == ".jsonl"):
            return self.data
        is_named = not Path(self.data).exists() and (self.data == SHAPES or is_bench(self.data))
        return self.data if is_named else f"{bench}:{self.data}"

    def fields(self) -> dict[str, Any]:
        """Of the benchmark; what another one than the table's is asked is its own affair."""
        if self.table.bench is None or self.source().partition(":")[0] != self.table.bench:
            return {}
        chosen = {"image_list": self.image_list, "synonyms": self.synonyms}
        return {**self.table.fields, **{name: value for name, value in chosen.items() if value is not None}}

    def deviations(self, asked: int, total: int | None, failed: int) -> list[str]:
        """Why this run is not the published one, a sentence each; nothing about what its file says differs anyway."""
        table, found = self.table, []
        if table.model is None:
            found.append(f"Whether {self.model_name} holds the published weights is not known here.")
        elif self.model_name.rstrip("/").rsplit("/", 1)[-1] != table.model.rsplit("/", 1)[-1]:
            found.append(f"The model is {self.model_name}, and the published one {table.model}.")
        if table.bench is not None and self.source().partition(":")[0] != table.bench:
            found.append(f"The data are {self.source()}, and the published ones {table.bench}.")
        wanted = total if table.limit is None or total is None else min(total, table.limit)
        if wanted is not None and asked < wanted:
            found.append(f"Only {asked} of {wanted} items were run.")
        elif wanted is None and self.limit is not None:
            found.append(f"Only the first {asked} samples were run.")
        if self.common.quantize is not None:
            found.append(f"The weights are quantized ({self.common.quantize}).")
        if failed:
            found.append(f"{failed} samples failed.")
        return found


def specs_of(order: ReproduceSettings) -> tuple[Spec, ...]:
    """The methods, those that need sink dimensions with the model's: of --sinks, else those known of its name.

    Raises InputError where neither tells.
    """
    from sightline.jobs.evaluate import NONE, Spec
    from sightline.probes.sinks import known_sinks

    known = known_sinks(order.model_name)
    found = []
    for label in order.table.methods:
        spec = label
        if order.sinks is None and known is not None and takes_sinks(label):
            spec += ("," if ":" in label else ":") + f"dims={'+'.join(map(str, known.dims))}"
        method = find_method(spec, order.sinks)
        found.append(Spec(label, NONE if method is None else method.spec(), method))
    return tuple(found)


def require_ready(order: ReproduceSettings) -> None:
    """InputError for what is missing, before data are read or a model is loaded."""
    _ = order.model_name
    order.source()
    specs_of(order)
    if order.table.bench != "chair" and (order.image_list or order.synonyms):
        raise InputError(f"An image list and synonyms are of CHAIR, and {order.table.name} is none: leave them out.")


# MDI and AEI --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan(measuring.Plan):
    """A measurement under several methods. specs: in full, in the table's order; reproduction: its name."""

    specs: tuple[str, ...] = (measuring.NONE,)
    reproduction: str = ""

    def settings(self, common: Common) -> dict[str, Any]:
        """As of a measurement, and the methods."""
        return super().settings(common) | {"methods": list(self.specs), "reproduction": self.reproduction}

    @property
    def methods(self) -> tuple[str, ...]:
        """The conditions each sample is measured under."""
        return self.specs


def measure(order: ReproduceSettings, output: Output, rank: int, world: int) -> dict[str, Any] | None:
    """The document of a measured table; None while other processes are at work."""
    table, specs = order.table, specs_of(order)
    with output.guarded():
        data = _samples(order)
    plan = Plan(
        models=(order.model_name,),
        data=data,
        queries=table.queries,
        stages=table.stages,
        new_tokens=table.new_tokens or 32,
        batch_size=order.batch_size or 1,
        layout=order.layout,
        sinks=order.sinks,
        maps=0,
        specs=tuple(spec.name for spec in specs),
        reproduction=table.name,
    )
    info = {"device": order.common.device, "limit": order.most, "processes": world}
    settings = plan.settings(order.common)
    with Run.open(order.folder, "measure", settings, info=info, retry_failed=order.retry_failed, rank=rank) as run:
        with output.guarded():
            measuring.measure(plan, order.common, run, output, world)
        with run.alone():
            if not measuring.is_complete(plan, run) or (world > 1 and run.is_summed_up):
                return None
            measured = measuring.results(plan, run)
            labels = [spec.label for spec in specs]
            failed = measuring.failures(plan, run)
            beside = [
                row
                for label, each in zip(labels, measured, strict=True)
                for row in _beside_measured(order.table, label, each)
            ]
            total = None if table.bench is None else _total(order)
            document = document_of(order, beside, order.deviations(len(data.samples), total, len(failed)))
            document["models"] = [each.document() for each in measured]
            run.finish(document)
    tell(failed, output)
    return document


def _samples(order: ReproduceSettings) -> Data:
    return find_data(order.source(), (), None, order.most, order.common.seed, **order.fields())


def _total(order: ReproduceSettings) -> int | None:
    """Items there are without a limit; None where the data are no benchmark of the table's."""
    if order.most is None:
        return None
    if order.source().partition(":")[0] != order.table.bench:
        return None
    asked = find_asked(order.source(), seed=order.common.seed, limit=order.most, **order.fields())
    return len(asked.loaded) + len(asked.bad)


def _beside_measured(table: Reproduction, label: str, measured: measuring.Measured) -> list[dict[str, Any]]:
    from sightline.probes.dominance import compare

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
        for row in compare(measured.result, entry.row)
    ]


# Benchmarks ---------------------------------------------------------------------------------------------------------


def evaluate(order: ReproduceSettings, output: Output, rank: int, world: int) -> dict[str, Any] | None:
    """The document of a table of scores: the `eval` document, and what stands beside."""
    from sightline.cli.live import LiveBoard
    from sightline.jobs import evaluate as evaluating
    from sightline.pages.tables import evaluate as evaluated

    table, specs = order.table, specs_of(order)
    if not is_bench(order.source()):
        raise InputError(f"{table.name} asks a benchmark, and {order.source()} is none: give a path, or another bench.")
    with output.guarded():
        asked = find_asked(order.source(), seed=order.common.seed, limit=order.most, **order.fields())
    # What is drawn depends on who shares a batch, which the free memory must not decide.
    size = 1 if table.temperature is not None and order.batch_size is None else order.batch_size
    plan = evaluating.Plan(
        models=(order.model_name,),
        benches=(asked,),
        specs=specs,
        new_tokens=table.new_tokens,
        batch_size=size,
        layout=order.layout,
        sinks=order.sinks,
        temperature=table.temperature,
    )
    info = {"device": order.common.device, "batch_size": size or "auto", "limit": order.most, "path": asked.path}
    settings = plan.settings(asked, order.common) | {"reproduction": table.name}
    with Run.open(order.folder, "eval", settings, info=info, retry_failed=order.retry_failed, rank=rank) as run:
        with output.guarded():
            evaluating.evaluate(plan, order.common, [run], LiveBoard(output, plan, "official"), world)
        with run.alone():
            if not evaluating.is_complete(plan, [run]) or (world > 1 and run.is_summed_up):
                return None
            (found,) = evaluated.documents(plan, [run], order.common, "official")
            failed = evaluated.failures(plan, [run])
            deviations = order.deviations(len(asked.ids), _asked_total(asked), len(failed))
            document = found | document_of(order, _beside_scored(table, found), deviations)
            run.finish(document)
            evaluated.write_tables(run.folder, [found])
    tell(failed, output)
    return document


def _asked_total(asked: BenchmarkItems) -> int:
    return len(asked.loaded) + len(asked.bad)


def _beside_scored(table: Reproduction, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for entry in table.published:
        told = found["methods"][entry.method]
        for name, value in entry.figures.items():
            ours = _figure(told, name)
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


def _figure(told: Mapping[str, Any], name: str) -> float | None:
    """ "accuracy", or "random accuracy" of the split or subtask random."""
    part, _, figure = name.rpartition(" ")
    place = told if not part else {**(told.get("splits") or {}), **(told.get("subtasks") or {})}.get(part, {})
    value = place.get(figure)
    return None if value is None else float(value)


# Documents ----------------------------------------------------------------------------------------------------------


def document_of(
    order: ReproduceSettings, beside: Sequence[dict[str, Any]], deviations: Sequence[str]
) -> dict[str, Any]:
    """What every document of the command has."""
    table = order.table
    return {
        "reproduction": table.name,
        "title": table.title,
        "published_in": table.source,
        "model": order.model_name,
        "published_model": table.model,
        "beside": list(beside),
        "claims": list(table.claims),
        "differs": list(table.differs),
        "deviations": list(deviations),
        "is_published_setting": not deviations,
    }


def tell(failed: Sequence[Record], output: Output) -> None:
    for record in failed[:5]:
        output.note(f"Sample {record.id} failed under {record.method} on {record.model}: {record.error}")
    if len(failed) > 5:
        output.note(f"... and {len(failed) - 5} more, in samples.jsonl.")


def _flow(order: ReproduceSettings, output: Output, rank: int, world: int) -> dict[str, Any]:
    from sightline.jobs.flows import flow

    return flow(order, output, world)


ENGINES: dict[str, Callable[[ReproduceSettings, Output, int, int], dict[str, Any] | None]] = {
    "measure": measure,
    "eval": evaluate,
    "flow": _flow,
}
"""By the kind of a table."""
