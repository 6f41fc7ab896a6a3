"""Maps of impact of two models or two ways, on the same prompts, against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.results.paired import adjusted, paired

if TYPE_CHECKING:
    import pandas as pd

Maps = Mapping[str, Sequence[Any]]
"""`ImpactMap`s by the id of their prompt."""


def modality_sums(found: Any, metric: str, modality: str) -> NDArray[np.float64]:
    """[layers]: a measure summed over the sources of one modality; 0 where it has none."""
    places = [place for place, source in enumerate(found.tokens) if source.modality == modality]
    return np.asarray(np.nansum(found.values(metric)[:, places], 1))


def compare_impacts(a: Maps, b: Maps, metric: str | None, seed: int = 0) -> pd.DataFrame:
    """A row a layer and modality, over the prompts that both have; a measure is summed over a modality's sources.

    Columns: a and b (the models), layer, modality, metric, n, mean_a, mean_b, difference (b - a), ci_low and ci_high
    (95% percentile bootstrap over prompts), p_value (exact sign-flip test of it) and p_holm, adjusted for all rows.

    Raises:
        InputError: where they have no prompt in common, or read other layers.
    """
    names = [name for name in a if name in b]
    if not names:
        raise InputError("The two have no prompt in common: read the same prompts.")
    first, second = a[names[0]][0], b[names[0]][0]
    if first.layers != second.layers:
        raise InputError(f"{first.model} and {second.model} were read in other layers: give the same layers=.")
    measure = metric or first.measure
    rows: list[dict[str, Any]] = []
    for modality in dict.fromkeys(source.modality for source in first.tokens):
        before, after = (np.stack([modality_sums(of[name][0], measure, modality) for name in names]) for of in (a, b))
        for place, layer in enumerate(first.layers):
            about = {"a": first.model, "b": second.model, "layer": layer, "modality": modality, "metric": measure}
            rows.append(about | paired(before[:, place], after[:, place], seed))
    return adjusted(rows)
