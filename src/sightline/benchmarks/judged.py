"""Answers that another harness has judged: its own scores a line, for tasks that Sightline has no rules for.

`sightline compare judged --answers A --answers B` pairs any two sample files of lmms-eval, or any two judged tables of
VLMEvalKit, by item, and gives intervals, flips and tests of the scores that stand in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sightline.benchmarks import choices
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.errors import InputError
from sightline.files.jsonl import id_text


@register
@dataclass(frozen=True)
class Judged(Benchmark):
    """Scores of another harness; an answer counts as right with a score of more than one half.

    Fields:
        metric: which of the scores in the lines. None: the first.
    """

    name: ClassVar[str] = "judged"
    title: ClassVar[str] = "Judged elsewhere"
    headline: ClassVar[str] = "mean"

    metric: str | None = field(default=None, metadata={"help": "which of the scores in the lines, not the first"})

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """Nothing: there are no questions here to ask, only answers."""
        raise InputError(
            "judged has no questions to ask: give sample files of lmms-eval or judged tables of VLMEvalKit to "
            "`sightline score judged` or `sightline compare judged`."
        )

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """One a line with scores; named by its id, split and place where these repeat."""
        items: list[Item] = []
        seen: dict[str, int] = {}
        for number, record in enumerate(records, start=1):
            metrics = record.get("metrics")
            if not isinstance(metrics, Mapping) or not metrics:
                raise InputError(
                    f"Line {number} holds no score of another harness: sample files of lmms-eval (--log_samples) and "
                    "judged tables of VLMEvalKit have some."
                )
            if self.metric is not None and self.metric not in metrics:
                raise InputError(f"Line {number} has no metric {self.metric!r}; it has {', '.join(metrics)}.")
            group = str(record.get("category") or record.get("split") or "")
            given = (id_text(record.get(name)) for name in ("doc_id", "index", "question_id", "id"))
            name = next((found for found in given if found is not None), str(number))
            seen[name] = seen.get(name, 0) + 1
            name = name if seen[name] == 1 else f"{name}/{seen[name]}"
            metric = self.metric or next(iter(metrics))
            items.append(Item(name, "", (), None, group, {"score": float(metrics[metric]), "metric": metric}))
        return items or None

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """The score that stands in the item's line, whatever the words."""
        score = item.about["score"]
        return Verdict(item.id, f"{score:g}", score > 0.5, {"score": score})

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """The mean score, and by category."""
        judged = [item for item in items if item.id in judgements]

        def mean(of: Sequence[Item]) -> float | None:
            return choices.mean(judgements[item.id].detail["score"] for item in of)

        groups = dict.fromkeys(item.group for item in judged)
        parts = {name: [item for item in judged if item.group == name] for name in groups if name}
        return {
            "n": len(judged),
            "unparsed": 0,
            "mean": mean(judged),
            "metric": judged[0].about["metric"] if judged else None,
            "missing": len(items) - len(judged),
            "subtasks": {name: {"n": len(of), "mean": mean(of)} for name, of in sorted(parts.items())},
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Sums: score, answered."""
        return [
            Unit((item.id,), "", (float(judgements[item.id].detail["score"]), 1.0))
            for item in items
            if item.id in judgements
        ]
