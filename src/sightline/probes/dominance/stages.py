"""Which layers are called early, middle and late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from sightline.errors import InputError

Scheme = Literal["paired", "thirds"]
SCHEMES: tuple[str, ...] = get_args(Scheme)


def stage_layers(layers: Sequence[int], scheme: Scheme = "paired") -> dict[str, list[int]]:
    """The layers of each stage.

    layers: the layers that were read, ascending (a hybrid model's layers without softmax attention are not among them).
    scheme: `paired`, as reported for arXiv 2508.10552: the first two, the two around the middle (L//2 - 1 and L//2 of
    L), the last two. `thirds`: each layer belongs to one stage; what does not divide goes to the later stages.
    """
    if scheme not in SCHEMES:
        raise InputError(f"There are no stages called '{scheme}'; use {' or '.join(SCHEMES)}.")
    count = len(layers)
    if scheme == "thirds":
        first, second = count // 3, count // 3 + (count + 1) // 3 if count % 3 else 2 * count // 3
        bounds = {"early": (0, first), "middle": (first, second), "late": (second, count)}
    else:
        middle = max(0, count // 2 - 1)
        bounds = {"early": (0, 2), "middle": (middle, count // 2 + 1), "late": (max(0, count - 2), count)}
    return {stage: list(layers[start:stop]) for stage, (start, stop) in bounds.items()}
