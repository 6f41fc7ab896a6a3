"""Where in the picture an answer comes from: blocks of the image hidden from every row, at every layer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sightline.data.sample import Sample
from sightline.knockout.result import ImpactMap
from sightline.knockout.sample_inputs import encoded
from sightline.knockout.study import Study
from sightline.memory import is_out_of_memory
from sightline.models.layout import TokenLayout

MOST = 16
"""Blocks that an image is divided into, at most. Each costs a whole pass, so that all cost about as much as the map of
single edges of a model of 32 layers."""


def image_parts(vlm: Any, sample: Sample, study: Study) -> ImpactMap | None:
    """The causal map of square blocks of patches, hidden from every row at every layer: one "layer", at most 16 blocks.

    An edge from a patch to the answer's row is often all but idle, since other rows read the image first and the answer
    reads those. Hidden from every row, a block takes with it whatever the answer knows of that part of the picture.

    Args:
        vlm: a `VLM`.
        study: of the sample; its row and target are taken over.

    Returns:
        None where the prompt has no grid of patches before the row, or memory does not suffice.
    """
    layout = vlm.layout(encoded(vlm, sample))
    side = _side(layout)
    if side is None:
        return None
    layers = len(vlm.anatomy.layers)
    parts = replace(
        study,
        tokens="image",
        unit="patches",
        block=side,
        positions=None,
        layers=(0,),
        window=2 * layers + 1,
        scope="every-row",
        control=0,
        reference=False,
    )
    try:
        (found,) = parts.run(vlm, sample)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    return replace(found, settings={**found.settings, "layers_cut": "all"})


def _side(layout: TokenLayout) -> int | None:
    """The smallest side, in patches, of blocks of which the largest grid has at most `MOST`."""
    shapes = [tuple(grid.positions.shape) for grid in layout.grids[0]]
    if not shapes:
        return None
    rows, columns = max(shapes, key=lambda shape: shape[0] * shape[1])
    side = 1
    while math.ceil(rows / side) * math.ceil(columns / side) > MOST:
        side += 1
    return side
