"""Recall against CHAIRi, beside what shortening alone would give: who says less invents less, and sees no more.

The first method's captions are cut after each twentieth of their words: so many points of recall and CHAIRi that cost
nothing but length. A method is better than shortening where its CHAIRi lies below that curve at its own recall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from sightline.stats import interval_of

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item, Verdict

POINTS = 20
RESAMPLES = 1000

Sums = Float[np.ndarray, "items points sums"]
"""Of each caption, cut at each point: invented mentions, mentions, true objects named, true objects."""


def frontier(
    items: Sequence[Item],
    first: Mapping[str, Verdict],
    others: Mapping[str, Mapping[str, Verdict]],
    seed: int = 0,
) -> dict[str, Any] | None:
    """Over the items that all answered, None where that is nothing: {"curve": [{"share", "recall", "chair_i"}],
    "methods": {label: {"recall", "chair_i", "shortened", "delta", "ci95", "is_beyond"}}}.

    shortened: CHAIRi of the first method's captions cut so far that their recall is the method's. delta: the method's
    CHAIRi minus that, with its 95% percentile interval over redrawn images. is_beyond: the method's recall is larger
    than that of the whole captions, so that no cut has it; they are compared with the whole ones then.
    """
    known = [item for item in items if item.id in first and all(item.id in of for of in others.values())]
    if not known:
        return None
    curve = np.array([_cuts(first[item.id], item) for item in known], dtype=float)
    sides = {label: np.array([_whole(of[item.id]) for item in known], dtype=float) for label, of in others.items()}
    drawn = np.random.default_rng(seed).multinomial(len(known), np.full(len(known), 1 / len(known)), size=RESAMPLES)
    recall, chair_i = _figures(curve.sum(axis=0))
    redrawn = _figures(np.einsum("ri,iks->rks", drawn.astype(float), curve))
    return {
        "curve": [
            {"share": (point + 1) / POINTS, "recall": _known(recall[point]), "chair_i": _known(chair_i[point])}
            for point in range(POINTS)
        ],
        "methods": {
            label: _beside(side, recall, chair_i, *redrawn, drawn.astype(float)) for label, side in sides.items()
        },
    }


def _beside(
    side: Float[np.ndarray, "items sums"],
    recall: Float[np.ndarray, " points"],
    chair_i: Float[np.ndarray, " points"],
    recalls: Float[np.ndarray, "resamples points"],
    chairs: Float[np.ndarray, "resamples points"],
    drawn: Float[np.ndarray, "resamples items"],
) -> dict[str, Any]:
    own_recall, own = _figures(side.sum(axis=0))
    shortened = _at(float(own_recall), recall, chair_i)
    gaps = [
        float(mine) - _at(float(at), curve, values)
        for at, mine, curve, values in zip(*_figures(drawn @ side), recalls, chairs, strict=True)
    ]
    interval = interval_of(np.array(gaps))
    return {
        "recall": _known(own_recall),
        "chair_i": _known(own),
        "shortened": _known(shortened),
        "delta": _known(own - shortened),
        "ci95": None if interval is None else list(interval),
        "is_beyond": bool(own_recall > recall[-1]),
    }


def _cuts(verdict: Verdict, item: Item) -> list[tuple[int, int, int, int]]:
    """The sums of a caption's first twentieth, second, ... and of all of it."""
    detail, truth = verdict.detail, set(item.truth or ())
    found = []
    for point in range(1, POINTS + 1):
        length = math.ceil(point * detail["words"] / POINTS)
        pairs = zip(detail["mentions"], detail["places"], strict=True)
        names = [mention[1] for mention, place in pairs if place < length]
        wrong = sum(name not in truth for name in names)
        found.append((wrong, len(names), len(truth & set(names)), detail["truth"]))
    return found


def _whole(verdict: Verdict) -> tuple[int, int, int, int]:
    detail = verdict.detail
    return len(detail["hallucinated"]), len(detail["mentions"]), len(detail["recalled"]), detail["truth"]


def _figures(
    sums: Float[np.ndarray, "*points sums"],
) -> tuple[Shaped[np.ndarray, "*points"], Shaped[np.ndarray, "*points"]]:
    """Recall and CHAIRi; NaN of nothing."""
    wrong, named, recalled, due = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(recalled / due), np.asarray(wrong / named)


def _at(recall: float, curve: Float[np.ndarray, " points"], values: Float[np.ndarray, " points"]) -> float:
    """CHAIRi where the curve has this recall, in a straight line between its points; the ends' beyond them."""
    is_known = np.isfinite(values)
    if not is_known.any() or not math.isfinite(recall):
        return math.nan
    return float(np.interp(recall, curve[is_known], values[is_known]))


def _known(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
