"""What a training is evaluated by: benchmarks asked of the model as it is, greedily, a few items each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.models.vlm import VLM
    from sightline.training.settings import TrainSettings
    from sightline.training.steps import Evaluate, Evaluation

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
    from sightline.jobs.benchmark_items import find_items

    asked = [find_items(name, seed=SEED, limit=settings.eval_limit) for name in settings.eval_benches]

    def evaluate(vlm: VLM) -> Evaluation:
        from sightline.training.steps import Evaluation

        figures: dict[str, float] = {}
        score = float("nan")
        for one in asked:
            document = _document(vlm, one)
            figures |= {
                f"{one.name}.{name}": float(value)
                for name, value in document.items()
                if isinstance(value, int | float) and not isinstance(value, bool) and name not in LEFT_OUT
            }
            headline = document[one.bench.headline]
            if headline is not None:
                score = headline if one.bench.better == "larger" else -headline
        return Evaluation(figures, score)

    return evaluate


def _document(vlm: VLM, asked: BenchmarkItems) -> dict[str, Any]:
    from sightline.runs.batches import Batches

    judgements = {}
    items = {item.id: item for item in asked.items}

    def attempt(batch: Any) -> list[dict[str, Any]]:
        inputs = vlm.encode([asked.bench.sample(item) for item in batch])
        said = vlm.generate(inputs, max_new_tokens=asked.bench.new_tokens)
        return [{"response": text} for text in ([said] if isinstance(said, str) else said)]

    for outcome in Batches(BATCH).outcomes(asked.items, attempt):
        if outcome.result is not None:
            judgements[outcome.id] = asked.bench.verdict(items[outcome.id], outcome.result["response"])
    return asked.bench.score(list(items.values()), judgements)
