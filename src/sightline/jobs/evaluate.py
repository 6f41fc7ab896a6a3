"""`evaluate`: models and methods on benchmarks, the same items for all, compared in pairs.

The methods take turns, some batches each, so that what is there after a while, or after a crash, compares them. Items
go by length, the longest first, so that memory that does not suffice shows at once and batches have little padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import probes
from sightline.errors import InputError
from sightline.integrations.served import served_model
from sightline.integrations.tracking import Track, tracking
from sightline.jobs.answers import THINKING_TOKENS, answerer, sample_of, served_answerer
from sightline.jobs.auto_sinks import FIRST, sinks_for
from sightline.jobs.benchmark_items import BenchmarkItems, bench_items, first_samples, question_digest
from sightline.jobs.blind import seen_as
from sightline.jobs.evaluation import Evaluation, evaluation_of
from sightline.jobs.evaluation_folders import keep, run_places
from sightline.jobs.evaluation_plan import EvaluateSettings, EvaluationPlan
from sightline.jobs.methods import MethodSpec, beside, method_specs
from sightline.jobs.models import ModelSource, model_sources, pin_loaded
from sightline.jobs.running_score import RunningScore
from sightline.jobs.settings import job, settings_of
from sightline.jobs.shared_answers import take_shared
from sightline.jobs.sweep import Sweep, is_sweep, plain_of, run_sweep
from sightline.runs.batch_size import first_batch_size
from sightline.runs.batches import Attempt, Outcome, free_memory
from sightline.runs.folder import Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item
    from sightline.models.vlm import VLM

SERVED_AT_ONCE = 8
"""Items that a server is sent at once, unless a batch size is given."""


@job(EvaluateSettings)
def evaluate(
    model: Any,
    benchmarks: Any,
    methods: Any = ("none",),
    *,
    out: str | Path | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    track: str | Track | None = None,
    ready: Callable[[EvaluationPlan], None] | None = None,
    **fields: Any,
) -> Any:
    """Answers of models to benchmarks under any number of methods, scored, and compared with the first method.

    Args:
        model: a bundled name, a hub name, a folder, `VLM`, Transformers model with processor=; several in a list.
        benchmarks: `BENCH`, `BENCH:PATH`, or a `Benchmark`; several in a list.
        methods: specs as "vcd:alpha=1", methods as `sl.VCD()`, "none" for the model as it is; all get the same items.
            With a sweep, as "vcd:alpha=0.5|1|2", half of the items choose, see `sweep`.
        out: the run folder; an interrupted run in it is continued. Without, nothing is kept but the result.
        processor: of a Transformers model in memory.
        on_progress: is called as the run goes on.
        track: an experiment tracker that is given progress and figures: trackio, wandb, mlflow, tensorboard, each also
            as NAME:PROJECT, or a function of (figures by name, entries done).
        ready: is called with the items and methods before a model is loaded, and may raise; of a sweep with the method
            that the others are compared with.

    Returns:
        An `Evaluation`; with a sweep among the methods a `Sweep`.

    Raises:
        InputError: one sentence, before any work, for what is unknown or does not fit.
    """
    settings = settings_of(EvaluateSettings, fields)
    place, models = None if out is None else Path(out), model_sources(model, settings, processor)
    items = bench_items(benchmarks, seed=settings.seed, limit=settings.limit, **settings.of_bench())
    sinks = sinks_for(settings.sinks, models, lambda: first_samples(items[0], FIRST), settings, place)
    listed = list(methods) if isinstance(methods, Sequence) and not isinstance(methods, str) else [methods]
    if any(map(is_sweep, listed)):
        return _swept(models, items, listed, settings, sinks, place, on_progress, ready)
    plan = EvaluationPlan(models, items, beside(method_specs(methods, sinks), settings, sinks), settings, sinks)
    if ready is not None:
        ready(plan)
    name = place.name if place is not None else "-".join(["eval", *(each.name for each in items)])
    shown = {"model": plan.models[0].name, **plan.of_run(items[0]), **plan.info(items[0], 1)}
    with tracking(track if launched_as()[0] == 0 else None, name, shown, on_progress) as tracked:
        found = run_evaluation(plan, place, tracked.on_progress)
        tracked.figures(found.to_dict)
    return found


def _swept(
    models: Any,
    items: Sequence[BenchmarkItems],
    methods: Sequence[Any],
    settings: EvaluateSettings,
    sinks: Any,
    place: Path | None,
    on_progress: OnProgress | None,
    ready: Callable[[EvaluationPlan], None] | None,
) -> Sweep:
    """A sweep, with controls and views on the held-out half alone."""
    if len(models) != 1 or len(items) != 1:
        raise InputError("A sweep chooses on one benchmark and one model: give one of each.")
    plain_methods = plain_of(methods, settings.controls)
    if ready is not None:
        ready(EvaluationPlan(models, tuple(items), method_specs(plain_methods[:1], sinks), settings, sinks))

    def run(half: BenchmarkItems, wanted: Sequence[Any], folder: Path | None, is_held_out: bool) -> Evaluation:
        specs = method_specs(wanted, sinks)
        specs = beside(specs, settings, sinks) if is_held_out else specs
        return run_evaluation(EvaluationPlan(models, (half,), specs, settings, sinks), folder, on_progress)

    return run_sweep(methods, plain_methods, items[0], settings.seed, place, run)


def run_evaluation(plan: EvaluationPlan, out: Path | None, on_progress: OnProgress | None = None) -> Evaluation:
    """Answers what the run does not have yet; each batch is recorded before the next begins. Then all is scored."""
    rank, world = launched_as()
    if out is None and world > 1:
        raise InputError("Several processes share one run folder: give out=, on the command line --out DIR.")
    with ExitStack() as stack:
        runs = [
            stack.enter_context(_opened(plan, items, place, rank, world))
            for items, place in zip(plan.benches, run_places(plan, out), strict=True)
        ]
        _answer_all(plan, runs, on_progress, world)
        stack.enter_context(runs[0].alone())
        found = evaluation_of(plan, runs, out)
        if world > 1 and runs[0].is_summed_up:
            return found.of_another_process()  # which ended at the same time
        if out is not None:
            keep(found, runs, out)
        return found


def _opened(plan: EvaluationPlan, items: BenchmarkItems, place: Path | None, rank: int, world: int) -> Any:
    if place is None:
        return nullcontext(Records(plan.of_run(items), retry_failed=plan.settings.retry_failed))
    return Run.open(
        place,
        "eval",
        plan.of_run(items),
        info=plan.info(items, world),
        retry_failed=plan.settings.retry_failed,
        rank=rank,
    )


def _answer_all(plan: EvaluationPlan, runs: Sequence[Records], on_progress: OnProgress | None, world: int) -> None:
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner(run, world=world, on_progress=on_progress)) for run in runs]
        for items, runner in zip(plan.benches, runners, strict=True):
            for model in plan.models:
                model.pin(runner.run)
            _require_same_questions(items, runner.run)
            _take_up(plan, items, runner)
        for model in plan.models:
            wanted = [(model.name, spec.name) for spec in plan.specs]
            if any(
                runner.open(items.items, *of)
                for items, runner in zip(plan.benches, runners, strict=True)
                for of in wanted
            ):
                _on_model(plan, runners, model)
                free_memory()


def _require_same_questions(items: BenchmarkItems, run: Records) -> None:
    """InputError where the folder has answers to other questions under the same ids."""
    digests = {item.id: question_digest(item) for item in items.items}
    for record in run.records.values():
        known = None if record.result is None else record.result.get("question")
        if known is not None and digests.get(record.id, known) != known:
            raise InputError(
                f"{run.folder} holds an answer to another question under the id {record.id!r}: "
                f"give the same {items.name} items to continue it, or another folder."
            )


def _take_up(plan: EvaluationPlan, items: BenchmarkItems, runner: Runner) -> None:
    """What is done already; and items that cannot be used are recorded, by the first process alone."""
    for model in plan.models:
        for spec in plan.specs:
            runner.take_up(model.name, spec.name)
            done = runner.run.done_ids(model.name, spec.name)
            for bad in items.bad if runner.run.rank == 0 else ():
                if bad.id not in done:
                    runner.run.record(bad.id, model=model.name, method=spec.name, error=bad.error)


def _on_model(plan: EvaluationPlan, runners: Sequence[Runner], model: ModelSource) -> None:
    if model.is_served:
        _on_served(plan, runners, model.name)
        return
    vlm = model.open(plan.settings, sinks=plan.sinks)
    for spec in plan.specs:
        with nullcontext() if spec.method is None else spec.method.on(vlm):
            pass  # what does not fit this model shows now and not after the other methods' hours
    for place, (items, runner) in enumerate(zip(plan.benches, runners, strict=True)):
        pin_loaded(runner.run, model.name, vlm)
        if launched_as()[1] == 1:
            take_shared(plan, runners, place, model.name)
        _on_bench(plan, items, runner, vlm, model.name)


def _on_served(plan: EvaluationPlan, runners: Sequence[Runner], model: str) -> None:
    """A model behind an address; the size of a batch is how many items are sent at once."""
    served, settings = served_model(model), plan.settings
    changed = [spec.label for spec in plan.specs if spec.method is not None]
    if changed:
        raise InputError(f"{model} is behind an address: {changed[0]} changes a model in this process, so it has none.")
    size = SERVED_AT_ONCE if settings.batch_size == "auto" else settings.batch_size
    for place, (items, runner) in enumerate(zip(plan.benches, runners, strict=True)):
        if launched_as()[1] == 1:
            take_shared(plan, runners, place, model)

        def attempt(spec: MethodSpec, items: BenchmarkItems = items) -> Attempt[Item]:
            drawing = settings.seed, settings.temperature if spec.temperature is None else spec.temperature
            view = _view(spec, items)
            return served_answerer(served, items.bench, plan.longest_answer(items), *drawing, view, settings.image_side)

        _ask(plan, items, runner, model, size, attempt)


def _on_bench(plan: EvaluationPlan, items: BenchmarkItems, runner: Runner, vlm: VLM, model: str) -> None:
    left = [item for item in items.items if any(runner.open([item], model, spec.name) for spec in plan.specs)]
    if not left:
        return
    settings, new_tokens = plan.settings, plan.longest_answer(items)
    if settings.image_side is not None:
        raise InputError("image_side is for models behind an address: leave it out, or see the processor's settings.")
    size = settings.batch_size
    if size == "auto":
        longest = sorted(left, key=_length, reverse=True)[:5]
        size = first_batch_size(vlm, (partial(sample_of, vlm, items.bench, item) for item in longest), new_tokens)

    def attempt(spec: MethodSpec) -> Attempt[Item]:
        drawing = settings.seed, settings.temperature if spec.temperature is None else spec.temperature
        view, more = _view(spec, items), THINKING_TOKENS if settings.new_tokens is None else 0
        return answerer(vlm, items.bench, spec.method, new_tokens, *drawing, view, more, probes.measured_cost)

    _ask(plan, items, runner, model, size, attempt)


def _view(spec: MethodSpec, items: BenchmarkItems) -> Callable[[Item], Item] | None:
    return None if spec.view is None else seen_as(spec.view, items.loaded or items.items)


def _ask(
    plan: EvaluationPlan,
    items: BenchmarkItems,
    runner: Runner,
    model: str,
    size: int,
    attempt: Callable[[MethodSpec], Attempt[Item]],
) -> None:
    conditions = [
        Condition(model, spec.name, attempt(spec), f"{items.bench.title} {spec.label}") for spec in plan.specs
    ]
    on_outcome: Callable[[Condition[Item], Outcome], str] | None = None
    if runner.on_progress is not None:
        score = RunningScore(items, runner.run, model, plan.parser)
        on_outcome = score.after
    # Those without image, which no batch may mix in, are a kind of their own.
    runner.work(items.items, conditions, Arrangement(size, _length, lambda item: bool(item.images)), on_outcome)


def _length(item: Item) -> tuple[int, int]:
    """Images count most, then words."""
    return len(item.images), len(item.prompt)
