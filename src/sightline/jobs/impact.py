"""`impact`: what a model would do without each token, at each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.json import plain, read_object
from sightline.jobs.impact_config import Request
from sightline.jobs.impact_files import JSON_FILE, PromptImpact, document_of, maps_in
from sightline.jobs.impact_lists import lists_over_prompts
from sightline.jobs.impact_plan import ImpactPlan, requests_of
from sightline.jobs.impact_settings import STUDY, ImpactSettings
from sightline.jobs.impacts import Impacts
from sightline.jobs.models import ModelSource, model_sources
from sightline.jobs.settings import job, settings_of
from sightline.jobs.sources import find_data
from sightline.knockout.compare import compare_maps
from sightline.knockout.parts import image_parts
from sightline.knockout.result import ImpactMap
from sightline.knockout.study import Study
from sightline.knockout.study_rules import Mode
from sightline.models.vlm import VLM, wrap
from sightline.runs.batches import free_memory
from sightline.runs.folder import Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress, Progress
from sightline.runs.records import Record, Records
from sightline.runs.runner import Condition, Runner


@overload
def impact(
    model: Any,
    data: Sample | Mapping[str, Any],
    mode: Mode = ...,
    *,
    compare: None = None,
    out: None = None,
    new_tokens: None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> ImpactMap: ...
@overload
def impact(
    model: Any,
    data: Any,
    mode: Mode = ...,
    *,
    compare: Any = None,
    out: str | Path | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> Impacts: ...
@job(ImpactSettings, Study)
def impact(
    model: Any,
    data: Any,
    mode: Mode = "causal",
    *,
    compare: Any = None,
    out: str | Path | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> ImpactMap | Impacts:
    """What a model would do without each token, at each layer.

    Args:
        model: a bundled name, a hub name, a folder, a `VLM`, or a Transformers model; without processor=, what its
            forward takes is the data.
        data: a `Sample`, or what the model's forward takes, of one prompt; several Samples, or what stands for some.
        mode: "local", "causal", "vision", "tower" or another, see `Study`; its other fields are settings too, as
            unit="head" for what each head of each layer does.
        compare: another model on the same prompts (local and causal).
        out: the run folder, with tables and figures; an interrupted run in it is continued.
        processor: of a Transformers model in memory.
        on_progress: is called as the run goes on.

    Returns:
        Of one sample without out=, compare= and new_tokens= its `ImpactMap`; else `Impacts`.

    Raises:
        InputError: one sentence, for a source after the row, a row without sources, an empty selection, a layer out of
            range, a setting that the mode does not have.
        ModelError: when the model's attention can't be reached.
    """
    study = Study(mode=mode, **{name: value for name, value in fields.items() if name in STUDY})
    layout = fields.get("layout")
    is_plain = isinstance(data, Mapping | Sample)
    if is_plain and compare is None and out is None and study.new_tokens is None and not isinstance(model, str | Path):
        settings_of(ImpactSettings, _own(fields) | {"layout": None})
        (found,) = study.run(model if processor is None else _wrapped(model, processor), data, layout)
        return found
    settings = settings_of(ImpactSettings, _own(fields) | {"seed": study.seed})
    (source,) = model_sources(model, settings, processor)
    other = None if compare is None else model_sources(compare, replace(settings, layout=None))[0]
    given = find_data(data, seed=settings.seed)
    plan = ImpactPlan(source, requests_of(given.samples, study), settings, other, given.is_single)
    done = run_impact(plan, None if out is None else Path(out), on_progress)
    if out is None and compare is None and study.new_tokens is None and given.is_single:
        return done.prompts[given.samples[0].id].maps[0]
    return done


def _own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are no study's."""
    return {name: value for name, value in fields.items() if name not in STUDY}


def _wrapped(model: Any, processor: Any) -> Any:
    return wrap(model, processor)


def run_impact(plan: ImpactPlan, out: Path | None, on_progress: OnProgress | None = None) -> Impacts:
    """Does what the run does not have yet. A prompt's files are whole before its line is written."""
    if launched_as()[1] > 1:
        raise InputError("sightline impact runs in one process: start it without accelerate launch.")
    settings = plan.settings
    opened: Any = (
        nullcontext(Records(plan.of_run()))
        if out is None
        else Run.open(
            out, "impact", plan.of_run(), info={"device": settings.device}, retry_failed=settings.retry_failed
        )
    )
    made: dict[str, PromptImpact] = {}
    with opened as run, Runner(run, on_progress=on_progress, raises=lambda error: plan.is_single) as runner:
        for source in {each.name: each for each in (plan.model, plan.compare) if each is not None}.values():
            source.pin(run)
        lost = [request for request in plan.requests if not _is_kept(plan, run, request)]
        runner.take_up(plan.model.name, "none")
        todo = [*runner.open(plan.requests, plan.model.name, "none"), *lost]
        if todo:
            maker = _maker(plan, run, todo, on_progress)

            def attempt(batch: Sequence[Request]) -> list[dict[str, Any]]:
                (request,) = batch
                found = made[request.id] = maker(request)
                if out is not None:
                    found.write(plan.place_of(request, out))
                return [found.line(plan.place_of(request))]

            for request in lost:  # their lines are there, and their files are not
                attempt([request])
            runner.work(plan.requests, [Condition(plan.model.name, "none", attempt, "prompts")])
        summary, failed = _summary(plan, run, made)
        document = _own_document(plan, made, out) if plan.is_single else summary
        if isinstance(run, Run):
            run.finish(summary)
    maps = {request.id: made[request.id].maps for request in plan.requests if request.id in made}
    if out is not None:
        maps |= {each.id: maps_in(plan.place_of(each, out)) for each in plan.requests if each.id not in maps}
    return Impacts(document, summary, {name: of for name, of in maps.items() if of}, made, failed, out)


def _is_kept(plan: ImpactPlan, run: Records, request: Request) -> bool:
    """Whether a finished prompt's document is still there; one that failed has none."""
    record = run.records.get((plan.model.name, "none", request.id))
    if record is None or record.error is not None or run.folder is None:
        return True
    return (plan.place_of(request, run.folder) / JSON_FILE).is_file()


def _maker(
    plan: ImpactPlan, run: Records, todo: Sequence[Request], on_progress: OnProgress | None
) -> Callable[[Request], PromptImpact]:
    """What makes one prompt's maps."""
    if plan.compare is not None:
        return _comparer(plan, plan.compare, run, todo)
    vlm = plan.model.open(plan.settings, run)

    def make(request: Request) -> PromptImpact:
        maps = _maps(request, vlm, on_progress)
        document, parts = document_of(request, maps, vlm), None
        if maps[0].reference and request.study.tokens != "text":
            parts = image_parts(vlm, request.sample, request.study)
            if parts is not None:
                document["every_row"] = parts.to_dict()
        return PromptImpact(request, tuple(maps), document, parts)

    return make


def _maps(request: Request, vlm: VLM, on_progress: OnProgress | None) -> list[ImpactMap]:
    sample, study = request.sample, request.study
    if not vlm.anatomy.is_multimodal and sample.images and study.mode in ("local", "causal"):
        raise InputError(f"{vlm.name} reads text alone, and the prompt comes with an image: leave --image out.")
    is_exact = study.mode == "causal" and study.unit != "head" and study.estimate == "none"
    if is_exact and study.scope == "row" and study.new_tokens is None:
        study = replace(study, reference=True)
    if study.mode != "tower" or on_progress is None:
        return study.run(vlm, sample)
    report = on_progress
    return study.run(vlm, sample, on_pass=lambda done, total: report(Progress("passes", done, total)))


def _comparer(
    plan: ImpactPlan, other: ModelSource, run: Records, todo: Sequence[Request]
) -> Callable[[Request], PromptImpact]:
    """The first model's maps are made before the second is loaded, so that never two are held."""
    vlm = plan.model.open(plan.settings, run)
    first: dict[str, ImpactMap | Exception] = {}
    for request in todo:
        try:
            first[request.id] = _for_one(request, vlm)
        except Exception as error:
            if plan.is_single:
                raise
            first[request.id] = error
    del vlm
    free_memory()
    second = other.open(replace(plan.settings, layout=None), run)

    def make(request: Request) -> PromptImpact:
        before = first[request.id]
        if isinstance(before, Exception):
            raise before
        after = _for_one(request, second)
        found = compare_maps(before, after)
        document = found.to_dict() | {"prompt": request.sample.prompt}
        return PromptImpact(request, (before, after), document, comparison=found)

    return make


def _for_one(request: Request, vlm: VLM) -> ImpactMap:
    """One of two models' maps: a text-only one reads the words alone."""
    sample = request.sample if vlm.anatomy.is_multimodal else replace(request.sample, images=())
    (found,) = request.study.run(vlm, sample)
    return found


def _own_document(plan: ImpactPlan, made: Mapping[str, PromptImpact], out: Path | None) -> dict[str, Any]:
    (request,) = plan.requests
    if out is None:
        own: dict[str, Any] = plain(made[request.id].document)
        return own
    path = plan.place_of(request, out) / JSON_FILE
    found = read_object(path)
    if found is None:
        raise InputError(f"{path} is damaged or gone: delete {out}, or give another folder.")
    return found


def _summary(
    plan: ImpactPlan, run: Records, made: Mapping[str, PromptImpact]
) -> tuple[dict[str, Any], tuple[Record, ...]]:
    """{"model", "prompts": [a line a prompt], "failed"}, and "heads"; InputError when not one could be done."""
    records = [run.records[plan.model.name, "none", request.id] for request in plan.requests]
    failed = tuple(record for record in records if record.result is None)
    if len(failed) == len(records):
        raise InputError(
            f"Not one of {len(records)} prompts could be done on {plan.model.name}; the first: {records[0].error}"
        )
    lines = [
        {"id": record.id, **(record.result or {}), **({} if record.error is None else {"error": record.error})}
        for record in records
    ]
    compare = None if plan.compare is None else plan.compare.name
    summary = {"model": plan.model.name, "compare": compare, "failed": len(failed), "prompts": lines}
    return summary | lists_over_prompts(plan, run.folder, made), failed
