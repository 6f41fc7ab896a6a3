"""What a training is evaluated by: a few items of each benchmark, answered greedily by the model as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.jobs.answers import THINKING_TOKENS, answerer
from sightline.jobs.benchmark_items import find_items
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner
from sightline.training.state import TrainingEvaluation

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.models.vlm import VLM
    from sightline.training.settings import TrainSettings
    from sightline.training.state import Evaluate, TrainingEvaluation

BATCH = 16
"""Items in one pass; halved where memory does not suffice."""

SEED = 0
"""Of what is drawn: trainings of different seeds are evaluated on the same items."""

LEFT_OUT = {"n", "missing", "mentions", "hallucinated", "mean_words"}
"""Fields of score documents that say nothing about a training."""


def evaluator(settings: TrainSettings) -> Evaluate:
    """Asks the benchmarks of the settings; figures are `bench.field`, the score is the last one's headline.

    Raises InputError for a benchmark that there is not.
    """
    wanted = [find_items(name, seed=SEED, limit=settings.eval_limit) for name in settings.eval_benches]

    def evaluate(vlm: VLM) -> TrainingEvaluation:
        figures: dict[str, float] = {}
        score = float("nan")
        for one in wanted:
            document = _document(vlm, one)
            figures |= {
                f"{one.name}.{name}": float(value)
                for name, value in document.items()
                if isinstance(value, int | float) and not isinstance(value, bool) and name not in LEFT_OUT
            }
            headline = document[one.bench.headline]
            if headline is not None:
                score = headline if one.bench.better == "larger" else -headline
        return TrainingEvaluation(figures, score)

    return evaluate


def _document(vlm: VLM, wanted: BenchmarkItems) -> dict[str, Any]:
    """The score of greedy answers, made by this process alone and kept nowhere."""
    run, items = Records(), {item.id: item for item in wanted.items}
    answer = answerer(vlm, wanted.bench, None, wanted.bench.new_tokens, SEED, thinking=THINKING_TOKENS)
    arrangement: Arrangement[Item] = Arrangement(BATCH, kind=lambda item: bool(item.images))
    with Runner(run) as runner:
        runner.work(wanted.items, [Condition("", "none", answer)], arrangement)
    verdicts = {
        record.id: wanted.bench.verdict(items[record.id], record.result["response"])
        for record in run.all_records()
        if record.result is not None
    }
    return wanted.bench.score(list(items.values()), verdicts)
