"""What becomes of an answer when its picture is exchanged for another sample's: what `reliance` is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from sightline.data.sample import Sample
from sightline.models.vlm import VLM


@torch.no_grad()
def exchange_effects(vlm: VLM, samples: Sequence[Sample], others: Sequence[Sample | None]) -> list[float | None]:
    """KL(p || q) of each answer's first token, in nats: p with its own pictures, q with those of the other sample.

    None where there is no other sample.
    """
    pairs = [(sample, other) for sample, other in zip(samples, others, strict=True) if other is not None]
    if not pairs:
        return [None] * len(samples)
    both = ([sample for sample, _ in pairs], [replace(sample, images=other.images) for sample, other in pairs])
    here, there = (vlm.model(**vlm.encode(each)).logits[:, -1].float().log_softmax(-1) for each in both)
    effects = iter((here.exp() * (here - there)).nan_to_num(nan=0.0).sum(-1).clamp(min=0).tolist())
    return [None if other is None else next(effects) for other in others]


def partners(samples: Sequence[Sample]) -> dict[str, Sample | None]:
    """By id, the sample whose pictures stand in for its own: the first other one from half the list on.

    It has as many pictures and another first one; None where there is none, and for words alone.
    """
    found: dict[str, Sample | None] = {}
    count = len(samples)
    for place, sample in enumerate(samples):
        turned = (samples[(place + count // 2 + step) % count] for step in range(count))
        found[sample.id] = next((other for other in turned if sample.images and _is_other(sample, other)), None)
    return found


def _is_other(sample: Sample, other: Sample) -> bool:
    return len(sample.images) == len(other.images) and not _is_same(sample.images[0], other.images[0])


def _is_same(first: Any, second: Any) -> bool:
    if isinstance(first, Image.Image) and isinstance(second, Image.Image):
        return first is second or (first.size == second.size and first.tobytes() == second.tobytes())
    return bool(type(first) is type(second) and first == second)
