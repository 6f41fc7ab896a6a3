"""A layout given by hand: read, fitted to prompts, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.errors import LayoutError
from sightline.models.layout.by_hand import read_layout


def written(tmp_path: Path, document: Any) -> Path:
    file = tmp_path / "layout.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_ranges_count_from_the_first_position_that_is_not_padding(tmp_path: Path) -> None:
    given = read_layout(written(tmp_path, {"text": [[0, 1], [5, None]], "image": [[1, 5]], "grid": [2, 2]}))
    ids = torch.zeros(2, 8, dtype=torch.long)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8])
    layout = given.fit({"input_ids": ids, "attention_mask": mask})
    assert layout.modality.tolist() == [[0, 0, 1, 2, 2, 2, 2, 1], [1, 2, 2, 2, 2, 1, 1, 1]]
    assert [grids[0].positions.tolist() for grids in layout.grids] == [[[3, 4], [5, 6]], [[1, 2], [3, 4]]]
    assert layout.bos.nonzero().tolist() == [[0, 2], [1, 0]]


def test_places_may_count_from_the_end(tmp_path: Path) -> None:
    given = read_layout(written(tmp_path, {"image": [[0, -2]], "text": [[-2, None]]}))
    assert given.fit({"input_ids": torch.zeros(1, 5)}).modality.tolist() == [[2, 2, 2, 1, 1]]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "not valid JSON"),
        ([1], "must look like"),
        ({}, "must look like"),
        ({"picture": [[0, 4]]}, "'picture' is no modality"),
        ({"image": [[0, 4, 5]]}, "no [start, end]"),
        ({"image": 3}, "no [start, end]"),
        ({"image": [[True, 4]]}, "no [start, end]"),
        ({"image": [[0, 4]], "grid": [2]}, '"grid" must be [rows, columns]'),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(LayoutError) as caught:
        read_layout(written(tmp_path, document))
    assert said in str(caught.value)
    assert "layout.json" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="cannot be read"):
        read_layout(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"text": [[0, 3]], "image": [[2, 6]]}, "gives position 2 to text and again to image [2, 6]"),
        ({"text": [[0, 2]], "image": [[3, 6]]}, "leaves position 2 of 6 to nothing"),
        ({"text": [[0, 2]], "image": [[2, 7]]}, "outside of a prompt of 6 positions"),
        ({"text": [[0, 2]], "image": [[4, 4]]}, "outside of a prompt"),
        ({"text": [[0, 2]], "image": [[2, 6]], "grid": [3, 3]}, "an image of 4 positions and a grid of 3 x 3"),
    ],
)
def test_ranges_that_do_not_fit(tmp_path: Path, document: Any, said: str) -> None:
    given = read_layout(written(tmp_path, document))
    with pytest.raises(LayoutError) as caught:
        given.fit({"input_ids": torch.zeros(1, 6)})
    assert said in str(caught.value)
