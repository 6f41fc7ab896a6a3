"""`find_sinks`: which tokens of a model soak up attention and mean nothing, found and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.jobs.models import ModelSource, model_sources
from sightline.jobs.settings import ModelSettings, job, setting, settings_of
from sightline.jobs.sources import Data, chosen_batch_size, find_data, sample_length, sample_media
from sightline.probes import sinks as sink_probes
from sightline.runs.ahead import TwoSteps
from sightline.runs.folder import Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.probes.sinks import Sinks

SURVEY = "survey"


@dataclass(frozen=True, kw_only=True)
class FindSinksSettings(ModelSettings):
    """How sinks are looked for."""

    limit: int | None = setting(None, "Only so many samples, the first.", least=1)
    batch_size: int | Literal["auto"] = setting(
        "auto", "Samples in one pass; auto: by the free memory. Either is halved when memory does not suffice.", least=1
    )
    tau: float | None = setting(None, "Threshold of phi; by default 20, less if small.", above=0)
    factor: float = setting(
        3.0, "A sink by attention draws so many times what uniform attention would give it.", above=0
    )
    retry_failed: bool = setting(False, "Do samples that failed before again.")

    def of_run(self, model: ModelSource, data: Data) -> dict[str, Any]:
        """All that decides the result; how many samples is free to differ."""
        return {
            "models": [model.name],
            **data.settings,
            "tau": self.tau,
            "factor": self.factor,
            "layout": None if self.layout is None else str(self.layout),
            **self.of_model(),
        }


@job(FindSinksSettings)
def find_sinks(
    model: Any,
    data: Any,
    *,
    out: str | Path | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> Sinks:
    """The sink dimensions of a model, and a check against its attention. Each sample is run twice.

    Args:
        model: a bundled name, a hub name, a folder, a `VLM`, or a Transformers model with processor=; without one, what
            its forward takes is the data.
        data: a few dozen ordinary prompts with their images: "shapes", a JSON-lines file, `BENCH`, Samples, or what the
            model's forward takes.
        out: the run folder, with sinks.json; an interrupted run in it is continued. Without, nothing is kept.
        processor: of a Transformers model in memory.
        on_progress: is called as the run goes on.

    Raises:
        InputError: without samples, where not one can be run, and for a tau or factor that is no number above 0.
    """
    settings = settings_of(FindSinksSettings, fields)
    if _are_forward_inputs(data):
        return _on_inputs(model, data, settings, out)
    if launched_as()[1] > 1:
        raise InputError("Sinks are found in one process: start it without accelerate launch.")
    (source,) = model_sources(model, settings, processor)
    found = find_data(data, limit=settings.limit, seed=settings.seed)
    place = None if out is None else Path(out)
    with _opened(source, found, settings, place) as run:
        sinks = _find(source, found, settings, run, on_progress)
        if isinstance(run, Run):
            run.finish(sinks.to_dict())
            sinks.save(run.folder)
    return sinks


def _are_forward_inputs(data: Any) -> bool:
    first = next(iter(data), None) if isinstance(data, Sequence) and not isinstance(data, str) else data
    return isinstance(first, Mapping) and "input_ids" in first


def _on_inputs(model: Any, data: Any, settings: FindSinksSettings, out: Any) -> Sinks:
    if isinstance(model, str) or out is not None:
        raise InputError("Forward inputs go with a model in memory and without out=: give Samples for a run folder.")
    size = 1 if settings.batch_size == "auto" else settings.batch_size
    return sink_probes.search_sinks(model, data, settings.tau, settings.factor, size)


def _opened(source: ModelSource, data: Data, settings: FindSinksSettings, out: Path | None) -> Any:
    of_run = settings.of_run(source, data)
    if out is None:
        return nullcontext(Records(of_run))
    info = {name: getattr(settings, name) for name in ("device", "batch_size", "limit")}
    return Run.open(out, "sinks", of_run, info=info, retry_failed=settings.retry_failed)


def _find(
    source: ModelSource, data: Data, settings: FindSinksSettings, run: Records, on_progress: OnProgress | None
) -> Sinks:
    """Two passes over the samples."""
    source.pin(run)
    vlm = source.open(settings, run)
    search = sink_probes.Search.on(vlm, tau=settings.tau, factor=settings.factor)
    samples = data.samples
    size = chosen_batch_size(settings.batch_size, vlm, samples, 0)
    arrangement: Arrangement[Sample] = Arrangement(size, sample_length if size > 1 else None, sample_media)
    with ExitStack() as stack:
        runner = Runner(run, on_progress=on_progress, raises=lambda error: data.is_single)
        stack.enter_context(runner)

        def over(name: str, title: str, attempt: Callable[[Sequence[Sample], Any], list[Any]]) -> list[dict[str, Any]]:
            def results(batch: Sequence[Sample], ready: Any) -> list[dict[str, Any]]:
                return [entry.to_dict() for entry in attempt(batch, ready)]

            runner.work(samples, [Condition(source.name, name, TwoSteps(search.prepare, results), title)], arrangement)
            return _good(run, source.name, name, samples)

        surveys = [sink_probes.Survey.from_dict(each) for each in over(SURVEY, "looking for sinks", search.survey)]
        found = search.choose(surveys)
        # Other samples may lead to other dimensions, with which each is to be checked anew.
        name = f"check {'+'.join(map(str, found.dims)) or 'none'} {found.tau:g}"
        checks = over(name, "checking them", lambda batch, ready: search.check(batch, found, ready))
    every = [sink_probes.SampleCheck.from_dict(each) for each in checks]
    return replace(search.summarise(found, every, len(samples) - len(checks)), batch_size=run.batch_size(source.name))


def _good(run: Records, model: str, name: str, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    records = [run.records[model, name, sample.id] for sample in samples]
    good = [dict(record.result) for record in records if record.result is not None]
    if not good:
        raise InputError(f"Not one of {len(records)} samples could be run on {model}; the first: {records[0].error}")
    return good
