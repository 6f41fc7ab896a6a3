"""Answers to the same questions that another benchmark of a run has already: POPE's are RePOPE's too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightline.jobs.benchmark_items import question_digest

if TYPE_CHECKING:
    from sightline.jobs.evaluation_plan import EvaluationPlan
    from sightline.runs.runner import Runner

ALIKE = (None, "no image", "blank image")
"""Views that are the same whichever other items a benchmark has."""


def take_shared(plan: EvaluationPlan, runners: Sequence[Runner], place: int, model: str) -> None:
    """Records what an earlier benchmark of the plan has answered, where question, image and length are the same."""
    items, runner = plan.benches[place], runners[place]
    for other, before in zip(plan.benches[:place], runners[:place], strict=True):
        is_alike = plan.longest_answer(other) == plan.longest_answer(items)
        if other.name not in items.bench.shares_answers_of or not is_alike:
            continue
        known = {record.key: record for record in before.run.all_records()}
        for spec in plan.specs:
            done = runner.run.done_ids(model, spec.name)
            for item in items.items if spec.view in ALIKE else ():
                found = known.get((model, spec.name, item.id))
                answer = None if found is None else found.result
                if found is None or answer is None or item.id in done:
                    continue
                if answer.get("question") == question_digest(item):
                    runner.run.record(item.id, model=model, method=spec.name, result=answer, seconds=found.seconds)
            runner.take_up(model, spec.name)
