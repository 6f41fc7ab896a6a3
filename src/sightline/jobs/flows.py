"""What `reproduce` does for knocked-out flows: each question's line into the run folder, and the means over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from sightline.cli.output import Output
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.jobs.load import load_model, pin_folder
from sightline.jobs.reproduce import ReproduceSettings, document_of, tell
from sightline.published import FlowResult, information_flow
from sightline.published.gqa import read_questions
from sightline.runs.batches import Batches
from sightline.runs.folder import Record, Run


def flow(order: ReproduceSettings, output: Output, world: int) -> dict[str, Any]:
    """The document of knocked-out flows: the mean over the questions that the model answers rightly."""
    table, model = order.table, order.model_name
    if world > 1:
        raise InputError(f"{table.name} runs in one process: start it without accelerate launch.")
    samples, digest = read_questions(order.source(), order.most)
    settings = {
        "reproduction": table.name, "models": [model], "data": Path(order.source()).name, "data_sha256": digest,
        "flows": list(table.flows), "window": table.window, "new_tokens": table.new_tokens, "ending": table.ending,
        "dtype": order.common.dtype, "quantize": order.common.quantize,
        "layout": None if order.layout is None else str(order.layout),
    }  # fmt: skip
    info = {"device": order.common.device, "limit": order.most}
    with Run.open(order.folder, "reproduce", settings, info=info, retry_failed=order.retry_failed) as run:
        pin_folder(model, run)
        done = run.done_ids(model)
        todo = [sample for sample in samples if sample.id not in done]
        if todo:
            with output.guarded(), output.progress("questions", len(samples), len(samples) - len(todo)) as bar:
                for outcome in Batches(1).outcomes(todo, _follower(order, run)):
                    run.record(outcome.id, model=model, **outcome.fields())
                    bar.advance(bar.task_ids[0])
        records = [run.records[model, "none", sample.id] for sample in samples]
        document = _flow_document(order, records)
        run.finish(document)
    tell([record for record in records if record.error is not None], output)
    return document


def _follower(order: ReproduceSettings, run: Run) -> Callable[[Sequence[Sample]], list[dict[str, Any]]]:
    vlm = load_model(order.model_name, order.common, order.layout)
    if vlm.revision is not None:
        run.pin(f"revision of {order.model_name}", vlm.revision)
    table = order.table

    def follow(batch: Sequence[Sample]) -> list[dict[str, Any]]:
        (sample,) = batch
        asked = replace(sample, prompt=sample.prompt + table.ending)
        new_tokens = table.new_tokens or 128
        (tokens,) = vlm.generate_tokens(vlm.encode(asked), max_new_tokens=new_tokens, do_sample=False)
        said = vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        line: dict[str, Any] = {"text": said, "answer": sample.answer, "right": _is_right(said, sample.answer)}
        if line["right"]:
            found: FlowResult = information_flow(vlm, asked, sample.prompt, tokens, table.flows, table.window)
            line |= {"prob": found.prob, "change": found.change}
        return [line]

    return follow


def _is_right(said: str, answer: str | None) -> bool:
    """As the public code compares them."""
    return said.strip().lower() == (answer or "")


def _flow_document(order: ReproduceSettings, records: Sequence[Record]) -> dict[str, Any]:
    """{"asked", "right", "failed", "window", "flows": {flow: {"change": [a layer], "change_std", "largest"}}, ...}."""
    good = [record.result for record in records if record.result is not None]
    failed = len(records) - len(good)
    if not good:
        raise InputError(
            f"Not one of {len(records)} questions could be asked on {order.model_name}; the first: {records[0].error}"
        )
    right = [line for line in good if line["right"]]
    document = document_of(order, [], order.deviations(len(records), None, failed))
    return document | {
        "asked": len(records),
        "right": len(right),
        "failed": failed,
        "window": order.table.window,
        "flows": {name: _over([line["change"][name] for line in right]) for name in order.table.flows},
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
