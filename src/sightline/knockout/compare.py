"""Two models on one prompt: tokens aligned by their text, layers by their relative depth.

A vision-language model and its language sibling cut the same words into tokens alike, but one of them also has image
tokens, another template, and maybe another number of layers. What has no partner is listed, not dropped in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.knockout.measures import Array
from sightline.knockout.result import ImpactMap
from sightline.knockout.source import Source


@dataclass(frozen=True, eq=False)
class MapComparison:
    """Two maps brought together.

    Attributes:
        a, b: the maps.
        pairs: the aligned sources, in the order of the prompt.
        only_a, only_b: sources without a partner; image tokens of one model alone stand here.
        depths: relative depths, 0 the first layer and 1 the last, as many as the deeper model has layers.
        maps_a, maps_b: by measure that both have, [depths, pairs], each model's layers interpolated linearly.
    """

    a: ImpactMap
    b: ImpactMap
    pairs: tuple[tuple[Source, Source], ...]
    only_a: tuple[Source, ...]
    only_b: tuple[Source, ...]
    depths: tuple[float, ...]
    maps_a: dict[str, Array]
    maps_b: dict[str, Array]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: both maps' documents and, under "aligned", what they share."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "aligned": {
                "depths": list(self.depths),
                "tokens": [
                    {"text": a.text, "modality": a.modality, "a": list(a.positions), "b": list(b.positions)}
                    for a, b in self.pairs
                ],
                "a": self.maps_a,
                "b": self.maps_b,
                "correlation": {name: self.correlation(name) for name in self.maps_a},
            },
            "unaligned": {
                "a": [source.to_dict() for source in self.only_a],
                "b": [source.to_dict() for source in self.only_b],
            },
        }

    def correlation(self, measure: str) -> float | None:
        """Pearson's, over all depths and aligned tokens that both define; None without any spread."""
        a, b = self.maps_a[measure].ravel(), self.maps_b[measure].ravel()
        known = np.isfinite(a) & np.isfinite(b)
        a, b = a[known], b[known]
        if len(a) < 2 or not a.std() or not b.std():
            return None
        return float(np.corrcoef(a, b)[0, 1])


def compare_maps(a: ImpactMap, b: ImpactMap) -> MapComparison:
    """Align two maps of one mode.

    Raises:
        InputError: when the modes differ, they share no measure, or not one token has the same text.
    """
    if a.mode != b.mode:
        raise InputError(f"A {a.mode} map and a {b.mode} map can't be compared: make both in one mode.")
    measures = [name for name in a.maps if name in b.maps and a.maps[name].ndim == 2]
    if not measures:
        raise InputError(f"The two maps share no measure: {', '.join(a.maps)} and {', '.join(b.maps)}.")
    pairs = _aligned(a.tokens, b.tokens)
    if not pairs:
        raise InputError(f"No token of {a.model} has the text of one of {b.model}: compare them on the same prompt.")
    left, right = [one for one, _ in pairs], [other for _, other in pairs]
    depths = np.linspace(0.0, 1.0, max(len(a.layers), len(b.layers), 2))
    return MapComparison(
        a,
        b,
        tuple((a.tokens[one], b.tokens[other]) for one, other in pairs),
        tuple(source for place, source in enumerate(a.tokens) if place not in set(left)),
        tuple(source for place, source in enumerate(b.tokens) if place not in set(right)),
        tuple(float(depth) for depth in depths),
        {name: at_depths(a.maps[name][:, left], depths) for name in measures},
        {name: at_depths(b.maps[name][:, right], depths) for name in measures},
    )


def at_depths(values: Array, depths: Array) -> Array:
    """[depths, tokens] of a map [layers, tokens], its first layer at depth 0 and its last at 1; gaps are passed over.

    A column with a single defined layer is that value at every depth; one with none is NaN.
    """
    layers = np.linspace(0.0, 1.0, len(values)) if len(values) > 1 else np.zeros(1)
    columns = []
    for column in values.T:
        known = np.isfinite(column)
        filled = np.interp(depths, layers[known], column[known]) if known.any() else np.full(len(depths), np.nan)
        columns.append(filled)
    return np.stack(columns, 1)


def _aligned(a: Sequence[Source], b: Sequence[Source]) -> list[tuple[int, int]]:
    """Places of the sources that go together, both ascending."""
    matcher = SequenceMatcher(None, [_name(source) for source in a], [_name(source) for source in b], autojunk=False)
    return [
        (block.a + place, block.b + place) for block in matcher.get_matching_blocks() for place in range(block.size)
    ]


def _name(source: Source) -> tuple[Any, ...]:
    """What must be equal: a word its letters, a patch its place."""
    if source.row is not None:
        return source.modality, source.image, source.grid, source.row, source.col
    return source.modality, source.text.strip().casefold()
