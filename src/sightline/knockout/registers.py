"""The mode registers: norms of the vision tower's patches behind each layer, as they are and with test-time registers.

Outliers and register neurons are found in the prompt's own pictures, see `probes.register_neurons`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sightline.attention.alone import alone
from sightline.errors import InputError
from sightline.knockout.logits import answer_of, row_logits
from sightline.knockout.result import ImpactMap
from sightline.knockout.tower_patches import find_patches, patch_sources
from sightline.knockout.vision import AnswerEffects
from sightline.methods.registers import Registers
from sightline.models.anatomy import Anatomy
from sightline.models.layout import TokenLayout
from sightline.probes.register_neurons import NoOutliers, find_register_neurons, tower_norms

LISTED = 50
"""Neurons of a picture that its map names, the highest score first."""
MOVED = 10
"""Of these, what the registers take over, as many as in the paper's configuration of CLIP."""


def register_norms(
    anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout, layers: Sequence[int] | None
) -> AnswerEffects:
    """Maps of [tower layers, patches]: "norm", and "norm_registers" once the first `MOVED` neurons are moved.

    Where no patch is an outlier there is "norm" alone, and `baseline` has no neurons.

    Raises:
        InputError: for a prompt without a picture, and a layer that the tower has not.
        ModelError: for a model whose tower can't have another token.
    """
    before = tower_norms(anatomy, inputs)
    if not before.sizes:
        raise InputError("The prompt has no picture that goes through the vision tower: give an image.")
    depth = len(before.values)
    chosen = tuple(range(depth)) if layers is None else tuple(layers)
    missing = next((layer for layer in chosen if not 0 <= layer < depth), None)
    if missing is not None:
        raise InputError(f"Layer {missing} is out of range: the vision tower has layers 0 to {depth - 1}.")
    others = frozenset(before.values[0].isnan().nonzero()[:, 0].tolist())
    sources, numbers = patch_sources(find_patches(anatomy, inputs, layout, before.sizes, others), layout, 1)
    with alone(anatomy, "impact"):
        baseline: dict[str, Any] = dict(answer_of(row_logits(anatomy, inputs)[0], "predicted").baseline())
    values = {"norm": before.values}
    try:
        found = find_register_neurons(anatomy.model, [inputs], count=LISTED)
    except NoOutliers:
        baseline |= {"neurons": [], "outliers": 0, "patches": len(before.values[0]) - len(others)}
    else:
        baseline |= {name: value for name, value in found.to_dict().items() if name != "model"}
        values["norm_registers"] = tower_norms(anatomy, inputs, Registers(found.neurons[:MOVED])).values
    places = torch.cat(numbers)
    maps = {name: each[list(chosen)][:, places].double() for name, each in values.items()}
    return AnswerEffects(tuple(sources), maps, baseline, chosen)


def is_of_registers(found: ImpactMap) -> bool:
    """Whether a map is of this mode and names neurons."""
    return found.mode == "registers" and bool(found.baseline.get("neurons"))


def neuron_list(maps: Sequence[ImpactMap]) -> dict[str, Any]:
    """The document of registers.json: the neurons of the highest mean score over pictures, as many as are moved.

    A neuron that a picture does not name, `LISTED` being named, has the score 0 there.
    """
    total: Counter[str] = Counter()
    for found in maps:
        for name, score in zip(found.baseline["neurons"], found.baseline["scores"], strict=True):
            total[name] += score / len(maps)
    first = total.most_common(MOVED)
    return {
        "neurons": [name for name, _ in first],
        "scores": [score for _, score in first],
        "pictures": len(maps),
        "model": maps[0].model,
        "weights": maps[0].baseline.get("weights"),
    }
