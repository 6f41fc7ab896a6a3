"""`measure`: how attention splits between text and image, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.calibration.exchange import exchange_effects, partners
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.integrations.tracking import Track, tracking
from sightline.jobs.answers import seed_of
from sightline.jobs.auto_sinks import sinks_for
from sightline.jobs.measurement import Measurement, measurement_of
from sightline.jobs.measurement_plan import MeasurementPlan, MeasureSettings
from sightline.jobs.methods import NONE, MethodSpec, method_specs
from sightline.jobs.models import ModelSource, model_sources
from sightline.jobs.sample_maps import keeping_maps
from sightline.jobs.settings import job, settings_of
from sightline.jobs.sources import chosen_batch_size, find_data, sample_length, sample_media
from sightline.pages.pictures import thumbnails
from sightline.probes.dominance import Dominance
from sightline.probes.dominance.queries import name_of
from sightline.runs.ahead import TwoSteps
from sightline.runs.batches import free_memory
from sightline.runs.description import RUN_FILE
from sightline.runs.folder import SUMMARY_FILE, Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM


@job(MeasureSettings)
def measure(
    model: Any,
    data: Any,
    *,
    method: Any = None,
    out: str | Path | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    track: str | Track | None = None,
    **fields: Any,
) -> Measurement:
    """How attention splits between text and image in each layer of models, on samples.

    Args:
        model: a bundled name, a hub name, a folder, `VLM`, Transformers model with processor=; several in a list.
        data: "shapes", a JSON-lines file, `BENCH` or `BENCH:PATH`, a `Sample`, or several in a list.
        queries: "generated", "prompt", "all", positions of the prompt, or a function as `sl.words("noun")`; several in
            a list are measured one after the other and stand side by side.
        method: a spec as "vcd:alpha=1", or a method as `sl.VCD()`; each sample is then measured without and with it.
        out: the run folder; an interrupted run in it is continued. Without, nothing is kept but the result.
        processor: of a Transformers model in memory.
        on_progress: is called as the run goes on.
        track: an experiment tracker that is given progress and figures, as for `evaluate`.

    Raises:
        InputError: one sentence, before any work, for what is unknown or does not fit.
    """
    place = None if out is None else Path(out)
    shown = {"model": model if isinstance(model, str) else type(model).__name__, "method": method, **fields}
    name = "measure" if place is None else place.name
    with tracking(track if launched_as()[0] == 0 else None, name, shown, on_progress) as tracked:
        given = {"method": method, "processor": processor, "on_progress": tracked.on_progress}
        found = _of_query_sets(model, data, place, fields, given)
        tracked.figures(found.to_dict)
    return found


def _of_query_sets(
    model: Any, data: Any, place: Path | None, fields: dict[str, Any], given: dict[str, Any]
) -> Measurement:
    sets = [MeasureSettings(queries=each).queries for each in _listed(fields.pop("queries", "generated"))]
    if len(sets) == 1:
        return _measured(model, data, place, {**fields, "queries": sets[0]}, **given)
    if place is not None and (place / RUN_FILE).exists():
        raise InputError(f"{place} is the run folder of one query set: give another --out for several.")
    sources = model_sources(model, settings_of(MeasureSettings, {**fields, "queries": sets[0]}), given["processor"])
    if len(sources) == 1:  # of several, one at a time is in memory
        sources = (replace(sources[0], kept=[]),)
    given |= {"processor": None}
    parts = [
        _measured(sources, data, place and place / name_of(each), {**fields, "queries": each}, **given) for each in sets
    ]
    found = Measurement.together(parts, place)
    if place is not None and found.is_main:
        write_atomically(place / SUMMARY_FILE, json_text(found.to_dict(), indent=2))
        found.draw(place / "figures")
    return found


def _listed(queries: Any) -> tuple[Any, ...]:
    """The query sets of one or of several; a list of numbers is one set of positions."""
    if isinstance(queries, str) or callable(queries):
        return (queries,)
    several = tuple(queries)
    return (several,) if several and all(isinstance(each, int) for each in several) else tuple(dict.fromkeys(several))


def _measured(
    model: Any, data: Any, out: Path | None, fields: dict[str, Any], method: Any, processor: Any, on_progress: Any
) -> Measurement:
    """With one query set."""
    settings = settings_of(MeasureSettings, fields)
    models = model_sources(model, settings, processor)
    found = find_data(data, limit=settings.limit, seed=settings.seed)
    sinks = sinks_for(settings.sinks, models, lambda: found.samples, settings, out)
    specs = (MethodSpec(NONE, NONE), *(spec for spec in method_specs(method, sinks) if spec.name != NONE))
    if len(specs) > 2:
        raise InputError("measure takes one method at a time: give one, and measure the others in calls of their own.")
    about = {"method": specs[-1].name if len(specs) > 1 else None}
    found.require_field(settings.by)
    measured = run_measurement(MeasurementPlan(models, found, specs, settings, sinks, about), out, on_progress)
    if out is not None and measured.is_main:
        measured.draw(out / "figures")
    return measured


def run_measurement(plan: MeasurementPlan, out: Path | None, on_progress: OnProgress | None = None) -> Measurement:
    """Measures what the run does not have yet; each sample is recorded before the next begins."""
    rank, world = launched_as()
    if out is None and world > 1:
        raise InputError("Several processes share one run folder: give out=, on the command line --out DIR.")
    with ExitStack() as stack:
        run = stack.enter_context(_opened(plan, out, rank, world))
        with Runner(run, world=world, on_progress=on_progress, raises=lambda error: plan.data.is_single) as runner:
            for model in plan.models:
                model.pin(run)
            for model in plan.models:
                _on_model(plan, runner, model)
        stack.enter_context(run.alone())
        found = measurement_of(plan, run, out)
        if world > 1 and run.is_summed_up:
            return replace(found, is_main=False)  # another process ended at the same time
        if isinstance(run, Run):
            run.finish(found.to_dict())
        return found


def _opened(plan: MeasurementPlan, out: Path | None, rank: int, world: int) -> Any:
    is_again = plan.settings.retry_failed
    if out is None:
        return nullcontext(Records(plan.of_run(), retry_failed=is_again))
    return Run.open(out, "measure", plan.of_run(), info=plan.info(world), retry_failed=is_again, rank=rank)


def _on_model(plan: MeasurementPlan, runner: Runner, model: ModelSource) -> None:
    samples = plan.data.samples
    for spec in plan.specs:
        runner.take_up(model.name, spec.name)
    if not any(runner.open(samples, model.name, spec.name) for spec in plan.specs):
        return
    vlm = model.open(plan.settings, runner.run, plan.sinks)
    tokens = plan.settings.new_tokens if plan.is_answering else 1
    size = chosen_batch_size(plan.settings.batch_size, vlm, samples, tokens)
    conditions = [
        Condition(model.name, spec.name, _measurer(vlm, plan, spec.method), f"measuring {model.name} {spec.label}")
        for spec in plan.specs
    ]
    runner.work(samples, conditions, Arrangement(size, sample_length if size > 1 else None, sample_media))
    del vlm, conditions
    free_memory()


def _measurer(vlm: VLM, plan: MeasurementPlan, method: Method | None) -> TwoSteps[Sample, tuple[Any, list[Any]]]:
    """What measures a batch on one model under one method; a result a sample."""
    settings = plan.settings
    reading = Dominance(queries=settings.queries, sinks=plan.sinks, metrics=settings.metrics, heads=settings.heads)
    others = partners(plan.data.samples) if settings.reliance else {}
    mapped = {sample.id for sample in plan.data.samples[: settings.maps]}

    def prepare(batch: Sequence[Sample]) -> tuple[Any, list[Any]]:
        ready = vlm.prepare([replace(sample, id="") for sample in batch] if plan.data.is_single else batch)
        pictures = zip(batch, ready.pictures, strict=True)
        return ready, [thumbnails(images) if sample.id in mapped else [] for sample, images in pictures]

    def results(batch: Sequence[Sample], prepared: tuple[Any, list[Any]]) -> list[dict[str, Any]]:
        torch.manual_seed(seed_of(settings.seed, batch[0].id))
        ready, images = prepared
        inputs = vlm.encode(ready)
        has_maps = any(sample.id in mapped for sample in batch)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            probe = stack.enter_context(reading.on(vlm))
            keep = stack.enter_context(keeping_maps(vlm, batch, inputs, images, plan.sinks)) if has_maps else None
            # One new token is the prompt's forward pass, with the logits of its last position alone.
            count = settings.new_tokens if plan.is_answering else 1
            tokens = vlm.generate_tokens(inputs, max_new_tokens=count)
            maps = [] if keep is None else keep(tokens)
        found = probe.result().samples
        effects = [None] * len(batch) if not others else _effects(vlm, batch, others, method)
        texts = [vlm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
        return [
            {"text": text if plan.is_answering else None, "dominance": sample.to_dict()}
            | ({"about": dict(batch[place].about)} if batch[place].about else {})
            | ({"maps": maps[place]} if batch[place].id in mapped else {})
            | ({"effect": effects[place]} if settings.reliance else {})
            for place, (text, sample) in enumerate(zip(texts, found, strict=True))
        ]

    return TwoSteps(prepare, results)


def _effects(
    vlm: VLM, batch: Sequence[Sample], others: Mapping[str, Sample | None], method: Method | None
) -> list[float | None]:
    """What another sample's picture does to each answer, the method acting on both."""
    with nullcontext() if method is None else method.on(vlm):
        return exchange_effects(vlm, batch, [others[sample.id] for sample in batch])
