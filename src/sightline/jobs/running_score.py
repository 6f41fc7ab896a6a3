"""The headline of a benchmark so far, while its items are answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sightline.text import number

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item, Parser, Verdict
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.runs.batches import Outcome
    from sightline.runs.records import Records
    from sightline.runs.runner import Condition

EVERY = 1.0
"""Seconds between two scorings."""


class RunningScore:
    """The headline and the answers not understood, by method, of one model on one benchmark."""

    def __init__(self, items: BenchmarkItems, run: Records, model: str, parser: Parser) -> None:
        self._bench, self._items = items.bench, {item.id: item for item in items.items}
        self._parser: Parser = parser
        self._scored: dict[str, float] = {}
        self._verdicts: dict[str, dict[str, Verdict]] = {}
        for record in run.records.values():
            if record.model == model and record.result is not None:
                self._judge(record.method, record.id, record.result)

    def after(self, condition: Condition[Item], outcome: Outcome) -> str:
        """In words, with one more; empty where it was scored a moment ago."""
        if outcome.result is not None:
            self._judge(condition.method, outcome.id, outcome.result)
        if time.monotonic() - self._scored.get(condition.method, 0.0) < EVERY:
            return ""
        self._scored[condition.method] = time.monotonic()
        verdicts = self._verdicts.get(condition.method, {})
        try:
            document = self._bench.score([self._items[name] for name in self._items if name in verdicts], verdicts)
        except Exception:
            return ""  # a figure to look at meanwhile is not worth a run; the scorer's error comes at its end
        name = self._bench.headline
        return f"{name.replace('_', ' ')} {number(document[name], 3)}, unparsed {document.get('unparsed', 0)}"

    def _judge(self, method: str, name: str, result: Any) -> None:
        if name in self._items:
            verdict = self._bench.verdict(self._items[name], result["response"], self._parser)
            self._verdicts.setdefault(method, {})[name] = verdict
