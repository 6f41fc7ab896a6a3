"""`calibrate`: every instrument on every model whose truth is known, and every method likewise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.calibration.cases import Case
from sightline.calibration.instruments import INSTRUMENTS
from sightline.calibration.remedies import (
    CONTROLS,
    Remedy,
    is_right_answer,
    name_without_sinks,
    remedies,
    specs_for,
    truth_for,
)
from sightline.calibration.subject import Subject
from sightline.calibration.table import label_name, table_rows
from sightline.calibration.truths import TRUTHS, KnownTruth, check_models
from sightline.errors import InputError
from sightline.jobs.answers import seed_of
from sightline.jobs.calibrate_plan import COMMAND, CalibrateSettings
from sightline.jobs.calibration import Calibration
from sightline.jobs.methods import NONE, MethodSpec, method_specs, with_controls
from sightline.jobs.models import ModelSource
from sightline.jobs.settings import job, settings_of
from sightline.methods.registry import takes_sinks
from sightline.runs.batches import free_memory
from sightline.runs.folder import Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner

BATCH = 8
"""Questions that a model answers at once."""

METHOD = "method: "
"""Before the name of a method, in the records of its answers."""

FEW_METHODS = ("var", "mask_sinks")
"""Methods of a quick calibration, beside those that a model has settings for."""


@job(CalibrateSettings)
def calibrate(
    models: Any = (),
    *,
    instruments: Sequence[str] | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> Calibration:
    """What each instrument shows: its readings held against models whose truth is known by intervention.

    Args:
        models: bundled models of which a truth is known, one or several; all of them by default.
        instruments: names of `sightline.calibration.instruments.INSTRUMENTS`; all by default.
        out: the run folder; an interrupted run in it is continued. Without, nothing is kept but the result.
        on_progress: is called as the run goes on.

    Raises:
        InputError: one sentence, before any work, for a model of which no truth is known, and an unknown instrument.
    """
    settings = settings_of(CalibrateSettings, fields)
    listed = [models] if isinstance(models, str | Path) else list(models)
    plan = _Plan(check_models([str(model) for model in listed]), _instruments(instruments), settings)
    if launched_as()[1] > 1:
        raise InputError("Instruments are calibrated in one process: start it without accelerate launch.")
    place = None if out is None else Path(out)
    with ExitStack() as stack:
        run = stack.enter_context(_opened(settings, place))
        runner = stack.enter_context(Runner(run, on_progress=on_progress))
        for name in plan.models:
            ModelSource(name).pin(run)
        for name in plan.models:
            _on_model(plan, runner, name)
        found = _summed_up(plan, run, place)
        if isinstance(run, Run):
            run.finish(found.to_dict())
            found.draw(run.folder / "figures")
    return found


@dataclass(frozen=True)
class _Plan:
    """What is to be done. instruments: their names."""

    models: tuple[str, ...]
    instruments: tuple[str, ...]
    settings: CalibrateSettings

    def truths(self, model: str) -> list[KnownTruth]:
        """What is known of a model and can be held against the instruments at hand."""
        if self.settings.parts == "methods":
            return []
        return [truth for truth in TRUTHS if model in truth.models and self.readers(truth)]

    def is_done(self, runner: Runner, model: str) -> bool:
        """Whether a continued run has all readings of a model; of methods a model alone says which suit it."""
        if self.settings.parts != "instruments":
            return False
        for truth in self.truths(model):
            cases = self.cases(truth, model)
            labels = _results(runner.run, model, label_name(truth))
            known = [case for case in cases if labels.get(case.id, {"labels": [0]})["labels"]]
            for name in (label_name(truth), *self.readers(truth)):
                runner.take_up(model, name)
                if runner.open(cases if name == label_name(truth) else known, model, name):
                    return False
        return True

    def readers(self, truth: KnownTruth) -> list[str]:
        """The instruments that read what the truth is of."""
        return [name for name in self.instruments if type(INSTRUMENTS[name]).reads(truth.unit)]

    def cases(self, truth: KnownTruth, model: str) -> list[Case]:
        """Its cases."""
        return truth.cases(model, self.settings.count, self.settings.seed)

    def chosen(self, subject: Subject) -> tuple[MethodSpec, ...]:
        """The methods that are tried on a model, none first; those that act on sinks where it has some."""
        listed = specs_for(subject.vlm.name)
        if self.settings.quick:
            listed = tuple(spec for spec in listed if spec in FEW_METHODS or ":" in spec)
        if not subject.sinks.dims:
            listed = tuple(spec for spec in listed if not takes_sinks(spec))
        return method_specs((NONE, *listed), subject.sinks)


def _instruments(names: Sequence[str] | None) -> tuple[str, ...]:
    wanted = tuple(INSTRUMENTS) if names is None else (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in INSTRUMENTS:
            raise InputError(f"There is no instrument named {name!r}; the instruments are {', '.join(INSTRUMENTS)}.")
    return wanted


def _opened(settings: CalibrateSettings, out: Path | None) -> Any:
    if out is None:
        return nullcontext(Records(settings.of_run(), retry_failed=settings.retry_failed))
    return Run.open(out, COMMAND, settings.of_run(), info=settings.info(), retry_failed=settings.retry_failed)


def _on_model(plan: _Plan, runner: Runner, name: str) -> None:
    """Labels first, then every instrument, then every method."""
    if plan.is_done(runner, name):
        return
    vlm = ModelSource(name).open(plan.settings.of_loading(), runner.run)
    subject = Subject(vlm, plan.settings.seed)
    for truth in plan.truths(name):
        cases = plan.cases(truth, name)
        condition = Condition(name, label_name(truth), _labeller(subject, truth), f"{name}: truth of {truth.name}")
        runner.work(cases, [condition])
        labels = _results(runner.run, name, label_name(truth))
        known = [case for case in cases if labels.get(case.id, {}).get("labels")]
        conditions = [
            Condition(name, each, _reader(subject, truth, each, labels), f"{name}: {truth.name}, {each}")
            for each in plan.readers(truth)
        ]
        runner.work(known, conditions)
    tried = truth_for(name)
    if tried is not None and plan.settings.parts != "instruments":
        chosen = plan.chosen(subject)
        controls = with_controls(chosen, subject.sinks)[len(chosen) :]
        treated = [
            Condition(
                name, METHOD + spec.name, _answerer(subject, plan, spec, spec in controls), f"{name}: {spec.label}"
            )
            for spec in (*chosen, *controls)
        ]
        runner.work(plan.cases(tried, name), treated, Arrangement(BATCH))
    del vlm, subject
    free_memory()


def _labeller(subject: Subject, truth: KnownTruth) -> Callable[[Sequence[Case]], list[dict[str, Any]]]:
    return lambda cases: [dict(truth.label(subject, case)) for case in cases]


def _reader(
    subject: Subject, truth: KnownTruth, name: str, labels: Mapping[str, Mapping[str, Any]]
) -> Callable[[Sequence[Case]], list[dict[str, Any]]]:
    def read(case: Case) -> dict[str, Any]:
        subject.begin()
        values = INSTRUMENTS[name].read(subject, case, truth.unit, labels[case.id])
        return {"values": values, "passes": round(subject.spent, 4)}

    return lambda cases: [read(case) for case in cases]


def _answerer(
    subject: Subject, plan: _Plan, spec: MethodSpec, is_control: bool
) -> Callable[[Sequence[Case]], list[dict[str, Any]]]:
    about = {
        "label": name_without_sinks(spec.name),
        "is_control": is_control or name_without_sinks(spec.name) in CONTROLS,
    }

    def answer(cases: Sequence[Case]) -> list[dict[str, Any]]:
        torch.manual_seed(seed_of(plan.settings.seed, cases[0].id))
        with nullcontext() if spec.method is None else spec.method.on(subject.vlm):
            texts = subject.answers([case.sample for case in cases])
        return [
            {"text": text, "right": float(is_right_answer(case, text)), **about}
            for case, text in zip(cases, texts, strict=True)
        ]

    return answer


def _results(run: Records, model: str, name: str) -> dict[str, Mapping[str, Any]]:
    """By case, in the order of the cases."""
    found = {
        record.id: record.result
        for record in run.records.values()
        if (record.model, record.method) == (model, name) and record.result is not None
    }
    return dict(sorted(found.items(), key=lambda entry: int(entry[0].rpartition("/")[2])))


def _summed_up(plan: _Plan, run: Records, place: Path | None) -> Calibration:
    known = {model: plan.truths(model) for model in plan.models}
    wanted = {
        (model, case.id) for model, truths in known.items() for truth in truths for case in plan.cases(truth, model)
    }

    def read(model: str, name: str) -> dict[str, Mapping[str, Any]]:
        return {case: result for case, result in _results(run, model, name).items() if (model, case) in wanted}

    truths = [truth for truth in TRUTHS if any(truth in mine for mine in known.values())]
    rows = table_rows(truths, plan.models, plan.instruments, read)
    methods = [remedy for model in plan.models for remedy in _remedies(plan, run, model)]
    failed = tuple(record for record in run.all_records() if record.error is not None)
    settings = {"scenes": plan.settings.count, **plan.settings.of_run()}
    return Calibration(tuple(rows), tuple(methods), plan.models, settings, failed, place, run)


def _remedies(plan: _Plan, run: Records, model: str) -> list[Remedy]:
    tried = truth_for(model)
    if plan.settings.parts == "instruments" or tried is None:
        return []
    ids = {case.id for case in plan.cases(tried, model)}
    names = [
        name for name in dict.fromkeys(record.method for record in run.records.values()) if name.startswith(METHOD)
    ]
    results = {name: {case: each for case, each in _results(run, model, name).items() if case in ids} for name in names}
    plain = results.pop(METHOD + NONE, {})
    return remedies(model, plain, {name: found for name, found in results.items() if found})
