"""The layout of every family, batch and padding, against what is known from how the prompt was written."""

from __future__ import annotations

import pytest

from families import EVERY, Family, str_of
from sightline.anatomy import find_anatomy
from sightline.layout import layout_of

SHAPES = [(1, None, 1), (1, None, 2), (2, None, 1), (2, "left", 2), (2, "right", 2)]


@pytest.mark.parametrize(("batch", "padding", "images"), SHAPES, ids=str)
@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_positions_and_grids(family: Family, batch: int, padding: str | None, images: int) -> None:
    case = family.make_inputs(batch, padding, min(images, family.max_images))
    layout = layout_of(find_anatomy(family.model()), case.inputs)
    assert layout.modality.tolist() == case.modality
    if case.grids is not None:
        assert [[(grid.rows, grid.columns) for grid in sample] for sample in layout.grids] == case.grids
        for sample, row in zip(layout.grids, case.modality, strict=True):
            for grid in sample:
                assert all(row[position] == grid.modality for position in grid.positions.flatten() if position >= 0)
