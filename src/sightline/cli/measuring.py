"""What `measure` and `demo` do: every model, method and sample, into a run folder; then the documents of it."""

from __future__ import annotations

import gc
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.data import Data
from sightline.cli.methods import find_method
from sightline.cli.models import load_model
from sightline.cli.options import Common
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.memory import with_less_memory
from sightline.runs import Record, Run, shard

if TYPE_CHECKING:
    from sightline.measure import DominanceResult
    from sightline.method import Method
    from sightline.sample import Sample
    from sightline.vlm import VLM

NONE = "none"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    method: a spec as `Method.spec` writes it, or None; with one, each sample is measured without and with it.
    new_tokens: at most so many are generated where `queries` is generated. batch_size: samples in one pass.
    """

    models: tuple[str, ...]
    data: Data
    queries: str = "generated"
    stages: str = "paired"
    new_tokens: int = 32
    method: str | None = None
    batch_size: int = 1
    layout: Path | None = None

    def settings(self, common: Common) -> dict[str, Any]:
        """All that decides a sample's result, as the run folder records it; stages only put results together."""
        return {
            "models": list(self.models),
            **self.data.settings,
            "queries": self.queries,
            "new_tokens": self.new_tokens if self.queries == "generated" else None,
            "method": self.method,
            "layout": None if self.layout is None else _text(self.layout),
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
            worker = _Worker(vlm, plan, common.seed)
            for spec in plan.methods:
                for outcome in worker.measure_all(todo[model, spec], find_method(spec)):
                    if outcome.error is not None and plan.data.is_single:
                        raise outcome.error
                    run.record(outcome.id, model=model, method=spec, **outcome.fields())
                    bar.advance(bar.task_ids[0])
            del vlm, worker
            _free_memory()


@dataclass(frozen=True)
class _Outcome:
    """How one sample ended. seconds: wall time; a batch's is shared out evenly."""

    id: str
    seconds: float
    result: dict[str, Any] | None = None
    error: Exception | None = None

    def fields(self) -> dict[str, Any]:
        told = None if self.error is None else _sentence(self.error)
        return {"result": self.result, "error": told, "seconds": self.seconds}


class _Worker:
    """Measures samples on one model, with ever smaller blocks of attention where memory is short."""

    def __init__(self, vlm: VLM, plan: Plan, seed: int) -> None:
        from sightline.attention import block_bytes

        self.vlm, self.plan, self.seed = vlm, plan, seed
        self._block_bytes = block_bytes()

    def measure_all(self, samples: Sequence[Sample], method: Method | None) -> Iterator[_Outcome]:
        """The outcome of each sample, in order, as soon as it is there."""
        for start in range(0, len(samples), self.plan.batch_size):
            yield from self._measure(samples[start : start + self.plan.batch_size], method)

    def _measure(self, batch: Sequence[Sample], method: Method | None) -> list[_Outcome]:
        begun = time.monotonic()
        try:
            results = self._within_memory(lambda: self._results(batch, method), is_last_resort=len(batch) == 1)
        except Exception as error:
            # A traceback keeps the failed pass's tensors; a single sample's is kept for --debug.
            failure = error if len(batch) == 1 else error.with_traceback(None)
        else:
            each = (time.monotonic() - begun) / len(batch)
            return [_Outcome(sample.id, each, result) for sample, result in zip(batch, results, strict=True)]
        if len(batch) == 1:
            return [_Outcome(batch[0].id, time.monotonic() - begun, error=failure)]
        # One bad sample, or too little memory for all together: each half on its own.
        half = len(batch) // 2
        return [*self._measure(batch[:half], method), *self._measure(batch[half:], method)]

    def _within_memory(self, attempt: Callable[[], list[dict[str, Any]]], is_last_resort: bool) -> list[dict[str, Any]]:
        from sightline.attention import limit_block_bytes

        def attempt_in_blocks() -> list[dict[str, Any]]:
            with limit_block_bytes(self._block_bytes):
                return attempt()

        return with_less_memory(attempt_in_blocks, self._shrink if is_last_resort else lambda: False)

    def _shrink(self) -> bool:
        from sightline.attention.rows import SMALLEST_BLOCK

        _free_memory()
        if self._block_bytes // 2 < SMALLEST_BLOCK:
            return False
        self._block_bytes //= 2
        return True

    def _results(self, batch: Sequence[Sample], method: Method | None) -> list[dict[str, Any]]:
        import torch

        from sightline.measure import Dominance

        # Of the sample, not of the run: a continued run draws what an uninterrupted one would.
        torch.manual_seed(zlib.crc32(f"{self.seed}/{batch[0].id}".encode("utf-8", "surrogatepass")))
        inputs = self.vlm.encode([replace(sample, id="") for sample in batch] if self.plan.data.is_single else batch)
        is_answering = self.plan.queries == "generated"
        probing = Dominance(queries=self.plan.queries)  # type: ignore[arg-type]
        with nullcontext() if method is None else method.on(self.vlm), probing.on(self.vlm) as probe:
            # One new token is the prompt's forward pass, with the logits of its last position alone.
            count = self.plan.new_tokens if is_answering else 1
            tokens = self.vlm.generate_tokens(inputs, max_new_tokens=count, do_sample=False)
        found = probe.result().samples
        texts = [self.vlm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
        return [
            {"text": text if is_answering else None, "dominance": sample.to_dict()}
            for text, sample in zip(texts, found, strict=True)
        ]


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SightlineError) else f"{type(error).__name__}: {text}"


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
    from sightline.measure import SampleDominance, aggregate

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
            from sightline.measure import compare

            told["published"] = compare(main.result, published)
        documents.append(told)
    return documents[0] if len(documents) == 1 else {"models": documents}
