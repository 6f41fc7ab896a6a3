"""Knocked-out flows of a reproduction: each question's line, and the means over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.jobs.models import ModelSource
from sightline.jobs.reproduction_plan import ReproductionPlan
from sightline.models.vlm import VLM
from sightline.published import FlowResult, Reproduction, information_flow
from sightline.published.gqa import read_questions
from sightline.runs.folder import Run
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress
from sightline.runs.records import Record, Records
from sightline.runs.runner import Condition, Runner


def run_flows(
    plan: ReproductionPlan, out: Path | None, on_progress: OnProgress | None
) -> tuple[dict[str, Any], tuple[Record, ...]]:
    """The document of knocked-out flows, and the questions that failed.

    The figures are means over the questions that the model answers rightly.
    """
    table, model, settings = plan.table, ModelSource(plan.model_name), plan.settings
    if launched_as()[1] > 1:
        raise InputError(f"{table.name} runs in one process: start it without accelerate launch.")
    samples, digest = read_questions(plan.source(), plan.most)
    of_run = {
        "reproduction": table.name, "models": [model.name], "data": Path(plan.source()).name, "data_sha256": digest,
        "flows": list(table.flows), "window": table.window, "new_tokens": table.new_tokens, "ending": table.ending,
        "dtype": settings.dtype, "quantize": settings.quantize,
        "layout": None if settings.layout is None else str(settings.layout),
    }  # fmt: skip
    info = {"device": settings.device, "limit": plan.most}
    opened: Any = (
        nullcontext(Records(of_run))
        if out is None
        else Run.open(out, "reproduce", of_run, info=info, retry_failed=settings.retry_failed)
    )
    with opened as run, Runner(run, on_progress=on_progress) as runner:
        model.pin(run)
        runner.take_up(model.name, "none")
        if runner.open(samples, model.name, "none"):
            vlm = model.open(settings, run)
            runner.work(samples, [Condition(model.name, "none", _follower(vlm, table), "questions")])
        records = [run.records[model.name, "none", sample.id] for sample in samples]
    return _document(plan, records), tuple(record for record in records if record.error is not None)


def _follower(vlm: VLM, table: Reproduction) -> Callable[[Sequence[Sample]], list[dict[str, Any]]]:
    def follow(batch: Sequence[Sample]) -> list[dict[str, Any]]:
        (sample,) = batch
        question = replace(sample, prompt=sample.prompt + table.ending)
        new_tokens = table.new_tokens or 128
        (tokens,) = vlm.generate_tokens(vlm.encode(question), max_new_tokens=new_tokens, do_sample=False)
        predicted = vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        line: dict[str, Any] = {
            "text": predicted,
            "answer": sample.answer,
            "right": _is_right(predicted, sample.answer),
        }
        if line["right"]:
            found: FlowResult = information_flow(vlm, question, sample.prompt, tokens, table.flows, table.window)
            line |= {"prob": found.prob, "change": found.change}
        return [line]

    return follow


def _is_right(predicted: str, answer: str | None) -> bool:
    """As the public code compares them."""
    return predicted.strip().lower() == (answer or "")


def _document(plan: ReproductionPlan, records: Sequence[Record]) -> dict[str, Any]:
    """How many questions, right answers and failures; by flow {"change": [a layer], "change_std", "largest"}."""
    good = [record.result for record in records if record.result is not None]
    failed = len(records) - len(good)
    if not good:
        raise InputError(
            f"Not one of {len(records)} questions could be asked on {plan.model_name}; the first: {records[0].error}"
        )
    right = [line for line in good if line["right"]]
    document = plan.document([], plan.deviations(len(records), None, failed))
    return document | {
        "asked": len(records),
        "right": len(right),
        "failed": failed,
        "window": plan.table.window,
        "flows": {name: _over([line["change"][name] for line in right]) for name in plan.table.flows},
    }


def _over(changes: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    layers = [[value for value in layer if value is not None] for layer in zip(*changes, strict=True)]
    means = [fmean(values) if values else None for values in layers]
    known = [(value, layer) for layer, value in enumerate(means) if value is not None]
    lowest = min(known, default=None)
    return {
        "change": means,
        "change_std": [pstdev(values) if values else None for values in layers],
        "largest": None if lowest is None else {"layer": lowest[1], "change": lowest[0]},
    }
