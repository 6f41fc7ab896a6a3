"""What answers a batch of benchmark items under one method."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.benchmark_items import question_digest
from sightline.runs.ahead import TwoSteps

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item
    from sightline.data.sample import Sample
    from sightline.integrations.served import ServedModel
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM
    from sightline.probes.generation_cost import GenerationCost

LONG_TOKEN = 128
"""Letters; longer tokens are hardly in any vocabulary."""


THINKING_TOKENS = 4096
"""New tokens that a model which thinks may take beyond a benchmark's own limit, where none is given."""


def answerer(
    vlm: VLM,
    bench: Benchmark,
    method: Method | None,
    new_tokens: int,
    seed: int = 0,
    temperature: float | None = None,
    view: Callable[[Item], Item] | None = None,
    thinking: int = 0,
    meter: Callable[[VLM], AbstractContextManager[GenerationCost]] | None = None,
) -> TwoSteps[Item, Any]:
    """What answers a batch: for each item {"response", "tokens", "question"}. temperature: None decodes greedily.

    view: makes an item the one that is shown, as one without its image; None: as it is. thinking: more new tokens for
    a model that writes its thoughts first; each of its results then has its "limit". meter: what a batch costs;
    where it is known, results have "prefill_seconds" and "cache_bytes", an item's share of its batch's.
    """
    drawing: dict[str, Any] = {}
    more = thinking if getattr(vlm, "thinks", False) else 0
    if temperature is not None:
        drawing = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}

    def prepare(batch: Sequence[Item]) -> Any:
        shown = batch if view is None else [view(item) for item in batch]
        is_meant = view is not None or bench.asks_without_image
        return vlm.prepare([sample_of(vlm, bench, item) for item in shown], allow_text_only=is_meant)

    def answer(batch: Sequence[Item], ready: Any) -> list[dict[str, Any]]:
        import torch

        inputs = vlm.encode(ready)
        # For answers that are drawn, and methods that draw without a seed of their own; of the batch, since they draw
        # for all of it at once.
        torch.manual_seed(seed_of(seed, batch[0].id))
        metering: Any = nullcontext() if meter is None else meter(vlm)
        with metering as cost, nullcontext() if method is None else method.on(vlm):
            rows = vlm.generate_tokens(inputs, max_new_tokens=new_tokens + more, **drawing)
        return [
            {
                "response": vlm.tokenizer.decode(row, skip_special_tokens=True).strip(),
                "tokens": len(row),
                "question": question_digest(item),
            }
            | ({"limit": new_tokens + more} if more else {})
            | cost_of(cost, len(batch))
            for item, row in zip(batch, rows, strict=True)
        ]

    return TwoSteps(prepare, answer)


def cost_of(cost: GenerationCost | None, rows: int) -> dict[str, Any]:
    """An item's share of what a batch cost, as its result has it."""
    found: dict[str, Any] = {}
    if cost is None:
        return found
    if cost.prefill_seconds is not None:
        found["prefill_seconds"] = round(cost.prefill_seconds / rows, 4)
    if cost.cache_bytes is not None:
        found["cache_bytes"] = cost.cache_bytes // rows
    return found


def served_answerer(
    served: ServedModel,
    bench: Benchmark,
    new_tokens: int,
    seed: int = 0,
    temperature: float | None = None,
    view: Callable[[Item], Item] | None = None,
    side: int | None = None,
) -> Callable[[Sequence[Item]], list[dict[str, Any]]]:
    """As `answerer`, of a model behind an address; a batch goes out at once. side: longest side of images, in pixels.

    Where one item of a batch fails, what all of them got is kept for the smaller batches that follow.
    """
    client = served.client()
    kept: dict[str, dict[str, Any] | Exception] = {}
    drawing = {"temperature": 0.0 if temperature is None else temperature, "seed": seed}

    def answer(batch: Sequence[Item]) -> list[dict[str, Any]]:
        open_items = [item for item in batch if item.id not in kept]
        samples = [bench.sample(item if view is None else view(item)) for item in open_items]
        found = served.answer_all(client, samples, new_tokens, side, **drawing)
        for item, each in zip(open_items, found, strict=True):
            kept[item.id] = each if isinstance(each, Exception) else each | {"question": question_digest(item)}
        failed = [each for item in batch if isinstance(each := kept[item.id], Exception)]
        if failed:
            raise failed[0] if len(batch) == 1 else InputError("Not all of a batch have an answer.")
        answers = [each for item in batch if not isinstance(each := kept[item.id], Exception)]
        for item in batch:
            del kept[item.id]
        return answers

    return answer


def seed_of(seed: int, name: str) -> int:
    """Of one entry, not of the run: a continued run draws what an uninterrupted one would."""
    return zlib.crc32(f"{seed}/{name}".encode("utf-8", "surrogatepass"))


def sample_of(vlm: VLM, bench: Benchmark, item: Item) -> Sample:
    """What the model reads. InputError where the words alone are more than it can read, as in a damaged file."""
    sample = bench.sample(item)
    most: int | None = getattr(vlm.anatomy.text_config, "max_position_embeddings", None)
    if most is not None and _has_more_tokens(vlm.tokenizer, sample.prompt, most):
        raise InputError(f"The prompt's words alone are more than {most:,} tokens, the most that {vlm.name} reads.")
    return sample


def _has_more_tokens(tokenizer: Any, text: str, most: int) -> bool:
    if 4 * len(text) <= most:  # no letter is more than four tokens
        return False
    parts = (text[: most * LONG_TOKEN], text)  # of words without end the beginning is enough to know
    return any(len(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) > most for part in parts)
