"""What `eval` does: every model, method and item of each benchmark, into run folders; nothing is scored here.

The methods take turns, some batches each, so that what is there after a while, or after a crash, compares them. Items
go by length, the longest first, so that memory that does not suffice shows at once and batches have little padding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.options import Common
from sightline.errors import InputError
from sightline.jobs.benchmark_items import BenchmarkItems, question_digest
from sightline.jobs.load import load_model, pin_folder
from sightline.runs.batch_size import first_batch_size
from sightline.runs.batches import Batches, Outcome, free_memory
from sightline.runs.claims import Claims
from sightline.runs.folder import Run, shard

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item
    from sightline.data.sample import Sample
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM
    from sightline.probes.sinks import Sinks

NONE = "none"

TURN = 4
"""Batches of one method before the next has its turn."""


@dataclass(frozen=True)
class Spec:
    """A method as the user wrote it, and in full: `name` is how the run folder calls it."""

    label: str
    name: str
    method: Method | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be evaluated. batch_size: samples in one pass; None: as many as memory seems to allow.

    temperature: of answers that are drawn from all of the vocabulary; None: greedily.
    """

    models: tuple[str, ...]
    benches: tuple[BenchmarkItems, ...]
    specs: tuple[Spec, ...]
    new_tokens: int | None = None
    batch_size: int | None = None
    layout: Path | None = None
    sinks: Sinks | None = None
    temperature: float | None = None

    def longest_answer(self, asked: BenchmarkItems) -> int:
        """New tokens at most."""
        return asked.bench.new_tokens if self.new_tokens is None else self.new_tokens

    def settings(self, asked: BenchmarkItems, common: Common) -> dict[str, Any]:
        """All that decides an answer and does not stand in its line: a folder takes more items and methods later."""
        return {
            "bench": asked.name,
            "new_tokens": self.longest_answer(asked),
            "temperature": self.temperature,
            "layout": None if self.layout is None else _text(self.layout),
            "seed": common.seed,
            "dtype": common.dtype,
            "quantize": common.quantize,
        }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The layout file {path} cannot be read ({getattr(error, 'strerror', 'not text')})."
        ) from error


@dataclass
class Job:
    """One benchmark under way: its run folder, this process's claims, and what it does not do again.

    settled: keys that need no answer any more, from before or by any process since.
    """

    asked: BenchmarkItems
    run: Run
    claims: Claims
    settled: set[tuple[str, str, str]] = field(default_factory=set)

    def open_items(self, model: str, spec: Spec) -> list[Item]:
        """Those without a line, in the official order."""
        return [item for item in self.asked.items if self.is_open(model, spec, item)]

    def is_open(self, model: str, spec: Spec, item: Item) -> bool:
        """Whether the item has no line yet."""
        return (model, spec.name, item.id) not in self.settled

    def settle(self, model: str, spec: Spec, outcome: Outcome) -> None:
        """Writes one line and lets go of the claim."""
        key = (model, spec.name, outcome.id)
        self.run.record(outcome.id, model=model, method=spec.name, **outcome.fields())
        self.settled.add(key)
        self.claims.give_back(key)

    def claimed(self, items: Sequence[Item], model: str, spec: Spec) -> Iterator[Item]:
        """Of the items, each in its turn, those that no other process has answered or is answering."""
        for item in items:
            key = (model, spec.name, item.id)
            if key in self.settled or not self.claims.take(key):
                continue
            self.settled |= self.run.refresh()  # another process may have written it before it let go
            if key in self.settled:
                self.claims.give_back(key)
                continue
            yield item


Tell = Callable[[Spec, Outcome], None]
Board = Callable[[Job, str], AbstractContextManager[Tell]]


def evaluate(plan: Plan, common: Common, runs: Sequence[Run], board: Board, world: int = 1) -> None:
    """Answers what the runs, one a benchmark, do not have yet; each batch is on disk before the next begins.

    board: shows how it goes on, one benchmark and model at a time.
    """
    with ExitStack() as stack:
        jobs = [
            Job(asked, run, stack.enter_context(Claims(run.folder)))
            for asked, run in zip(plan.benches, runs, strict=True)
        ]
        for job in jobs:
            for model in plan.models:
                pin_folder(model, job.run)
            _require_same_questions(job)
            _take_up(plan, job)
        for model in plan.models:
            if any(job.open_items(model, spec) for job in jobs for spec in plan.specs):
                _on_model(plan, common, jobs, model, board, world)
                free_memory()


def _require_same_questions(job: Job) -> None:
    """InputError where the folder has answers to other questions under the same ids."""
    digests = {item.id: question_digest(item) for item in job.asked.items}
    for record in job.run.records.values():
        known = None if record.result is None else record.result.get("question")
        if known is not None and digests.get(record.id, known) != known:
            raise InputError(
                f"{job.run.folder} holds an answer to another question under the id {record.id!r}: "
                f"give the same {job.asked.name} items to continue it, or another folder."
            )


def _take_up(plan: Plan, job: Job) -> None:
    """What is done already; and items that cannot be asked are recorded, by the first process alone."""
    for model in plan.models:
        for spec in plan.specs:
            done = job.run.done_ids(model, spec.name)
            job.settled |= {(model, spec.name, name) for name in done}
            for bad in job.asked.bad if job.run.rank == 0 else ():
                if bad.id not in done:
                    job.run.record(bad.id, model=model, method=spec.name, error=bad.error)


def _on_model(plan: Plan, common: Common, jobs: Sequence[Job], model: str, board: Board, world: int) -> None:
    vlm = load_model(model, common, plan.layout)
    if plan.sinks is not None:
        plan.sinks.require_model(vlm.name, vlm.revision, vlm.anatomy.hidden_size)
    for spec in plan.specs:
        with nullcontext() if spec.method is None else spec.method.on(vlm):
            pass  # what does not fit this model is told now and not after the other methods' hours
    for job in jobs:
        if vlm.revision is not None:
            job.run.pin(f"revision of {model}", vlm.revision)
        with board(job, model) as tell:
            _on_bench(plan, common.seed, job, vlm, model, tell, world)


def _on_bench(plan: Plan, seed: int, job: Job, vlm: VLM, model: str, tell: Tell, world: int) -> None:
    order = _in_order([item for item in job.asked.items if any(job.is_open(model, spec, item) for spec in plan.specs)])
    if not order:
        return
    new_tokens = plan.longest_answer(job.asked)
    size = plan.batch_size
    if size is None:
        size = first_batch_size(vlm, (partial(_sample, vlm, job.asked, item) for item in order[:5]), new_tokens)
    batches = Batches(size)
    # First this process's share, then, from their far end, those of the others, who may be slower or dead.
    own = shard(order, job.run.rank % world, world)
    mine = {item.id for item in own}
    others = [item for item in reversed(order) if item.id not in mine]
    is_at_work = True
    while is_at_work and any(job.open_items(model, spec) for spec in plan.specs):
        is_at_work = False
        for turn in (*_turns(own, TURN * size), *_turns(others if job.claims.are_kept else [], TURN * size)):
            for spec in plan.specs:
                answer = _answerer(vlm, job.asked, spec, new_tokens, seed, plan.temperature)
                for outcome in batches.outcomes(job.claimed(turn, model, spec), answer):
                    job.settle(model, spec, outcome)
                    tell(spec, outcome)
                    is_at_work = True
        job.settled |= job.run.refresh()


def _in_order(items: Sequence[Item]) -> list[Item]:
    """The longest first: images count most, then words. Those without image, which no batch may mix in, are last."""
    return sorted(items, key=lambda item: (len(item.images), len(item.prompt)), reverse=True)


def _turns(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for _, alike in groupby(items, key=lambda item: bool(item.images)):
        entries = list(alike)
        for start in range(0, len(entries), size):
            yield entries[start : start + size]


def _sample(vlm: VLM, asked: BenchmarkItems, item: Item) -> Sample:
    """What the model is asked. InputError where the words alone are more than it can read, as in a damaged file."""
    sample = asked.bench.sample(item)
    most: int | None = getattr(vlm.anatomy.text_config, "max_position_embeddings", None)
    if most is not None and _has_more_tokens(vlm.tokenizer, sample.prompt, most):
        raise InputError(f"The prompt's words alone are more than {most:,} tokens, the most that {vlm.name} reads.")
    return sample


LONG_TOKEN = 128
"""Letters; longer tokens are hardly in any vocabulary."""


def _has_more_tokens(tokenizer: Any, text: str, most: int) -> bool:
    if 4 * len(text) <= most:  # no letter is more than four tokens
        return False
    parts = (text[: most * LONG_TOKEN], text)  # of words without end the beginning is enough to know
    return any(len(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) > most for part in parts)


def _answerer(
    vlm: VLM, asked: BenchmarkItems, spec: Spec, new_tokens: int, seed: int, temperature: float | None
) -> Callable[[Sequence[Item]], list[dict[str, Any]]]:
    """What answers a batch under one method: a result an item."""
    drawing: dict[str, Any] = {"do_sample": False}
    if temperature is not None:
        drawing = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}

    def answer(batch: Sequence[Item]) -> list[dict[str, Any]]:
        import torch

        inputs = vlm.encode([_sample(vlm, asked, item) for item in batch])
        # For answers that are drawn, and methods that draw without a seed of their own; of the batch, since they draw
        # for all of it at once.
        torch.manual_seed(zlib.crc32(f"{seed}/{batch[0].id}".encode("utf-8", "surrogatepass")))
        with nullcontext() if spec.method is None else spec.method.on(vlm):
            rows = vlm.generate_tokens(inputs, max_new_tokens=new_tokens, **drawing)
        return [
            {
                "response": vlm.tokenizer.decode(row, skip_special_tokens=True).strip(),
                "tokens": len(row),
                "question": question_digest(item),
            }
            for item, row in zip(batch, rows, strict=True)
        ]

    return answer


def is_complete(plan: Plan, runs: Sequence[Run]) -> bool:
    """Whether every item is recorded under every model and method, by whichever process."""
    for asked, run in zip(plan.benches, runs, strict=True):
        known = {record.key for record in run.all_records()}
        specs = [spec.name for spec in plan.specs]
        if not all((model, spec, name) in known for model in plan.models for spec in specs for name in asked.ids):
            return False
    return True
