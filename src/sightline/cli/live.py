"""How an evaluation goes on, on a terminal: a bar a method, with the headline so far and the answers not understood."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sightline.cli.output import Output
from sightline.text import number

if TYPE_CHECKING:
    from sightline.benchmarks.base import Parser, Verdict
    from sightline.jobs.evaluate import Job, Plan, Spec
    from sightline.runs.batches import Outcome

EVERY = 1.0
"""Seconds between two scorings."""


class LiveBoard:
    """Called with a job and a model, a `with` block that yields what is to be told of each outcome."""

    def __init__(self, output: Output, plan: Plan, parser: Parser) -> None:
        self._output, self._plan, self._parser = output, plan, parser

    @contextmanager
    def __call__(self, job: Job, model: str) -> Iterator[Callable[[Spec, Outcome], None]]:
        """Bars of every method, those answered before counted."""
        total, specs = len(job.asked.items), self._plan.specs
        done = {spec.label: total - len(job.open_items(model, spec)) for spec in specs}
        if any(done.values()):
            told = ", ".join(f"{done[spec.label]} of {total} under {spec.label}" for spec in specs)
            self._output.note(f"Already in {job.run.folder}: {told}.")
        title = f"{job.asked.bench.title} {specs[0].label}"
        with self._output.progress(title, total, done[specs[0].label]) as bar:
            tasks = {specs[0].label: bar.task_ids[0]}
            for spec in specs[1:]:
                name = f"{job.asked.bench.title} {spec.label}"
                tasks[spec.label] = bar.add_task(name, total=total, completed=done[spec.label])
            scores = {spec.label: _Score(job, model, spec, self._parser) for spec in specs} if not bar.disable else {}

            def tell(spec: Spec, outcome: Outcome) -> None:
                if spec.label not in scores:
                    return
                words = scores[spec.label].after(outcome)
                bar.advance(tasks[spec.label])
                if words is not None:
                    bar.update(tasks[spec.label], description=f"{job.asked.bench.title} {spec.label}  {words}")

            yield tell


class _Score:
    """The headline so far under one method."""

    def __init__(self, job: Job, model: str, spec: Spec, parser: Parser) -> None:
        self._bench, self._items = job.asked.bench, {item.id: item for item in job.asked.items}
        self._parser, self._told = parser, 0.0
        self._judgements: dict[str, Verdict] = {}
        for record in job.run.records.values():
            if (record.model, record.method) == (model, spec.name) and record.result is not None:
                self._judge(record.id, record.result)

    def after(self, outcome: Outcome) -> str | None:
        """In words, with one more; None where it was told a moment ago."""
        if outcome.result is not None:
            self._judge(outcome.id, outcome.result)
        if time.monotonic() - self._told < EVERY:
            return None
        self._told = time.monotonic()
        try:
            items = [item for name, item in self._items.items() if name in self._judgements]
            document = self._bench.score(items, self._judgements)
        except Exception:
            return None  # a figure to look at meanwhile is not worth a run; the scorer's error comes at its end
        name = self._bench.headline
        return f"{name.replace('_', ' ')} {number(document[name], 3)}, unparsed {document.get('unparsed', 0)}"

    def _judge(self, name: str, result: Any) -> None:
        if name in self._items:
            self._judgements[name] = self._bench.verdict(self._items[name], result["response"], self._parser)
