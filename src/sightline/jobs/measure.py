"""What `measure` and `demo` do: every model, method and sample, into a run folder; then the documents of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.options import Common
from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.jobs.load import load_model, pin_folder
from sightline.jobs.sources import Data
from sightline.methods.registry import find_method
from sightline.runs.batches import Batches, free_memory
from sightline.runs.folder import Record, Run, shard

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM
    from sightline.probes.dominance import DominanceResult
    from sightline.probes.sinks import Sinks

NONE = "none"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    method: a spec as `Method.spec` writes it, or None; with one, each sample is measured without and with it.
    new_tokens: at most so many are generated where `queries` is generated. batch_size: samples in one pass.
    sinks: of the model, to be left out of mdi_no_sinks; the method knows them already. maps: of so many samples, the
    first, attention maps and small pictures are kept for `sightline report`.
    """

    models: tuple[str, ...]
    data: Data
    queries: str = "generated"
    stages: str = "paired"
    new_tokens: int = 32
    method: str | None = None
    batch_size: int = 1
    layout: Path | None = None
    sinks: Sinks | None = None
    maps: int = 100

    def settings(self, common: Common) -> dict[str, Any]:
        """All that decides a sample's result, as the run folder records it; stages only put results together."""
        return {
            "models": list(self.models),
            **self.data.settings,
            "queries": self.queries,
            "new_tokens": self.new_tokens if self.queries == "generated" else None,
            "method": self.method,
            "layout": None if self.layout is None else _text(self.layout),
            "sinks": None if self.sinks is None else {"dims": self.sinks.dims, "tau": self.sinks.tau},
            "seed": common.seed,
            "dtype": common.dtype,
            "quantize": common.quantize,
        }

    @property
    def methods(self) -> tuple[str, ...]:
        """The conditions each sample is measured under."""
        return (NONE,) if self.method is None else (NONE, self.method)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The layout file {path} cannot be read ({getattr(error, 'strerror', 'not text')})."
        ) from error


def measure(plan: Plan, common: Common, run: Run, output: Output, world: int = 1) -> None:
    """Measures what the run does not have yet; each finished sample is in the run folder before the next begins."""
    for model in plan.models:
        pin_folder(model, run)
    share = shard(plan.data.samples, run.rank, world)
    total = len(share) * len(plan.models) * len(plan.methods)
    todo = {
        (model, spec): [sample for sample in share if sample.id not in run.done_ids(model, spec)]
        for model in plan.models
        for spec in plan.methods
    }
    left = sum(map(len, todo.values()))
    if left < total:
        output.note(f"{total - left} of {total} samples are already in {run.folder}.")
    with output.progress("measuring", total, total - left) as bar:
        for model in plan.models:
            if not any(todo[model, spec] for spec in plan.methods):
                continue
            vlm = load_model(model, common, plan.layout)
            if vlm.revision is not None:
                run.pin(f"revision of {model}", vlm.revision)
            if plan.sinks is not None:
                plan.sinks.require_model(vlm.name, vlm.revision, vlm.anatomy.hidden_size)
            batches = Batches(plan.batch_size)
            for spec in plan.methods:
                results = _sampler(vlm, plan, common.seed, find_method(spec))
                for outcome in batches.outcomes(todo[model, spec], results):
                    if outcome.error is not None and plan.data.is_single:
                        raise outcome.error
                    run.record(outcome.id, model=model, method=spec, **outcome.fields())
                    bar.advance(bar.task_ids[0])
            del vlm, results
            free_memory()


def _sampler(vlm: VLM, plan: Plan, seed: int, method: Method | None) -> Callable[[Sequence[Sample]], list[Any]]:
    """What measures a batch on one model under one method; a result a sample."""

    mapped = {sample.id for sample in plan.data.samples[: plan.maps]}

    def results(batch: Sequence[Sample]) -> list[dict[str, Any]]:
        import torch

        from sightline.jobs.sample_maps import keeping_maps
        from sightline.probes.dominance import Dominance

        # Of the sample, not of the run: a continued run draws what an uninterrupted one would.
        torch.manual_seed(zlib.crc32(f"{seed}/{batch[0].id}".encode("utf-8", "surrogatepass")))
        inputs = vlm.encode([replace(sample, id="") for sample in batch] if plan.data.is_single else batch)
        is_answering = plan.queries == "generated"
        probing = Dominance(queries=plan.queries, sinks=plan.sinks)  # type: ignore[arg-type]
        has_maps = any(sample.id in mapped for sample in batch)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            probe = stack.enter_context(probing.on(vlm))
            keep = stack.enter_context(keeping_maps(vlm, batch, inputs, plan.sinks)) if has_maps else None
            # One new token is the prompt's forward pass, with the logits of its last position alone.
            count = plan.new_tokens if is_answering else 1
            tokens = vlm.generate_tokens(inputs, max_new_tokens=count, do_sample=False)
            maps = [] if keep is None else keep(tokens)
        found = probe.result().samples
        texts = [vlm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
        return [
            {"text": text if is_answering else None, "dominance": sample.to_dict()}
            | ({"maps": maps[place]} if batch[place].id in mapped else {})
            for place, (text, sample) in enumerate(zip(texts, found, strict=True))
        ]

    return results


# Documents ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One model under one method over all samples. texts: the answers, where some were generated."""

    model: str
    method: str
    result: DominanceResult
    texts: tuple[str | None, ...]

    def document(self) -> dict[str, Any]:
        """The `measure` document, with the method; and the answer, where there is one sample."""
        extra = {"text": self.texts[0]} if len(self.texts) == 1 else {}
        return self.result.to_dict() | {"method": self.method} | extra


def is_complete(plan: Plan, run: Run) -> bool:
    """Whether every sample of every model and method is recorded, by whichever process."""
    known = {record.key for record in run.all_records()}
    return all(
        (model, spec, sample.id) in known
        for model in plan.models
        for spec in plan.methods
        for sample in plan.data.samples
    )


def failures(plan: Plan, run: Run) -> list[Record]:
    """The plan's samples that ended with an error."""
    wanted = {sample.id for sample in plan.data.samples}
    return [record for record in run.all_records() if record.error is not None and record.id in wanted]


def results(plan: Plan, run: Run) -> list[Measured]:
    """Each model's results, first without and then with the method, over the plan's samples in their order.

    Raises InputError when not one sample of a model and method was measured, with the first sample's error.
    """
    records = {record.key: record for record in run.all_records()}
    return [
        _measured(plan, model, spec, [records[model, spec, sample.id] for sample in plan.data.samples])
        for model in plan.models
        for spec in plan.methods
    ]


def _measured(plan: Plan, model: str, spec: str, records: Sequence[Record]) -> Measured:
    from sightline.probes.dominance import SampleDominance, aggregate

    good = [record.result for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} samples could be measured on {model}; the first: {records[0].error}"
        )
    samples = [SampleDominance.from_dict(result["dominance"]) for result in good]
    failed = len(records) - len(good)
    result = aggregate(samples, model=model, queries=plan.queries, stages=plan.stages, failed=failed)  # type: ignore[arg-type]
    return Measured(model, spec, result, tuple(result["text"] for result in good))


def document(plan: Plan, measured: Sequence[Measured], published: str | None = None) -> dict[str, Any]:
    """The command's JSON document.

    One model: its `measure` document, with a method that of the method, and the one without under "baseline". Several
    models: {"models": [such documents]}. published: names the row that goes along under "published".
    """
    documents = []
    step = len(plan.methods)
    for start in range(0, len(measured), step):
        *before, main = measured[start : start + step]
        told = main.document() | ({"baseline": before[0].document()} if before else {})
        if published is not None:
            from sightline.probes.dominance import compare

            told["published"] = compare(main.result, published)
        documents.append(told)
    return documents[0] if len(documents) == 1 else {"models": documents}
