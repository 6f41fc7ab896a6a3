"""The unit head: what each head of each layer does to the followed token, as a map, and the heads it owes most to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sightline.attention.alone import alone
from sightline.errors import InputError
from sightline.knockout.heads import by_ablation, by_gradient
from sightline.knockout.logits import answer_of, effect_maps, effect_rows, row_logits
from sightline.knockout.result import ImpactMap
from sightline.knockout.source import Source
from sightline.knockout.vision import AnswerEffects
from sightline.models.anatomy import Anatomy
from sightline.models.logits import plain_inputs
from sightline.models.weights_digest import weights_digest
from sightline.stats import rank_correlation


def head_answers(
    anatomy: Anatomy, inputs: Mapping[str, Any], target: str | int, layers: Sequence[int] | None
) -> AnswerEffects:
    """Every head taken away, exactly and by the gradient.

    Maps of [layers, heads]: those of `EFFECTS`, exact; and "gradient", the estimate of "logprob" by one backward pass.

    Raises:
        InputError: for a layer that is not there or has no softmax attention.
    """
    chosen = tuple(layers or anatomy.attention_layers)
    missing = next((layer for layer in chosen if layer not in anatomy.attention_layers), None)
    if missing is not None:
        raise InputError(f"Layer {missing} has no softmax attention in this model, so no heads: leave it out.")
    with alone(anatomy, "impact"):
        answer = answer_of(row_logits(anatomy, inputs)[0], target)
    given = plain_inputs(anatomy.model, inputs)
    rows = by_ablation(anatomy, given, chosen, lambda logits: effect_rows(answer, logits.cpu()))
    estimate = by_gradient(anatomy, given, answer.token)
    maps = effect_maps(rows.flatten(0, 1), *rows.shape[:2])
    maps["gradient"] = estimate[[anatomy.attention_layers.index(layer) for layer in chosen]]
    sources = tuple(Source((), f"head {head}", "head", kind="head") for head in range(anatomy.num_heads))
    baseline = answer.baseline() | {"predicted": answer.predicted, "weights": weights_digest(anatomy)}
    return AnswerEffects(sources, {name: torch.as_tensor(values) for name, values in maps.items()}, baseline, chosen)


def is_of_heads(found: ImpactMap) -> bool:
    """Whether a map's sources are heads."""
    return bool(found.tokens) and found.tokens[0].kind == "head"


def agreement(found: ImpactMap) -> float | None:
    """Spearman's rank correlation of the exact effects of all heads with their estimates; None where nothing varies."""
    return rank_correlation(found.maps["logprob"], found.maps["gradient"])


def mean_of(maps: Sequence[ImpactMap]) -> ImpactMap:
    """The mean effects over prompts of one model: what its heads do to such tokens.

    Raises:
        InputError: for maps of different heads or layers.
    """
    first = maps[0]
    if any((each.layers, each.tokens) != (first.layers, first.tokens) for each in maps):
        raise InputError("The maps are of different layers or heads: give those of one model, with the same layers.")
    return replace(first, maps={name: np.mean([each.maps[name] for each in maps], 0) for name in first.maps})


def ranked_heads(found: ImpactMap) -> list[dict[str, Any]]:
    """All heads, first the one that the token owes most to: its log-probability falls most without it."""
    exact, estimate = found.maps["logprob"], found.maps["gradient"]
    order = np.argsort(exact, axis=None, kind="stable").tolist()
    places = [divmod(place, exact.shape[1]) for place in order]
    return [
        {
            "head": f"{found.layers[layer]}.{head}",
            "logprob": float(exact[layer, head]),
            "gradient": float(estimate[layer, head]),
            "flip": float(found.maps["flip"][layer, head]),
        }
        for layer, head in places
    ]


def head_list(found: ImpactMap, prompts: int = 1) -> dict[str, Any]:
    """The document of heads.json: "heads", those whose loss costs the token most, a twentieth of all but at least one.

    An invented object's list is what `ADHH` takes.
    """
    ranked = ranked_heads(found)
    worst = [entry for entry in ranked if entry["logprob"] < 0][: max(1, len(ranked) // 20)]
    return {
        "model": found.model,
        "weights": found.baseline.get("weights"),
        "token": found.baseline.get("token"),
        "text": found.baseline.get("text"),
        "prompts": prompts,
        "agreement": agreement(found),
        "heads": [entry["head"] for entry in worst],
        "effects": [entry["logprob"] for entry in worst],
    }
