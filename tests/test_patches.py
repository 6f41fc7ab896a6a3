"""A patch grid is where the pixels are: changing a corner of a picture changes the tokens of that corner's cells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_folders import SAVERS, load_or_skip
from sightline.data.sample import Sample
from sightline.models.layout import TokenLayout
from sightline.models.vlm import VLM

SEEING = [name for name in SAVERS if "llama" not in name and "without" not in name]
SIDE = 96


@pytest.mark.parametrize("name", SEEING)
def test_a_corner_of_the_picture_is_that_corner_of_the_grid(name: str, tmp_path: Path) -> None:
    vlm = load_or_skip(SAVERS[name](tmp_path / name))
    _keep_patches_apart(vlm)
    options: dict[str, Any] = {"crop_to_patches": False} if name == "internvl" else {}
    plain = np.random.default_rng(0).integers(100, 140, (SIDE, SIDE, 3)).astype("uint8")
    before = vlm.encode(Sample(prompt="What?", image=Image.fromarray(plain)), **options)
    layout = vlm.layout(before)
    assert layout.grids[0]
    for row in (0, 1):
        for column in (0, 1):
            changed = plain.copy()
            half = SIDE // 2
            changed[row * half : (row + 1) * half, column * half : (column + 1) * half] = 255
            after = vlm.encode(Sample(prompt="What?", image=Image.fromarray(changed)), **options)
            moved = (_entering(vlm, after) - _entering(vlm, before)).norm(dim=-1)
            felt = _by_quarter(layout, moved)
            others = [felt[place] for place in felt if place != (row, column)]
            assert felt[row, column] > 2 * max(others), (row, column, felt)


def _keep_patches_apart(vlm: VLM) -> None:
    """The tower's attention is silenced, so that each patch tells of its own pixels alone."""
    tower: Any = vlm.anatomy.vision_tower
    with torch.no_grad():
        for parameter_name, parameter in tower.named_parameters():
            if re.search(r"(attn|attention).*proj(ection_layer)?\.(weight|bias)$", parameter_name):
                parameter.zero_()


def _entering(vlm: VLM, inputs: Any) -> torch.Tensor:
    """[positions, hidden], what enters the first decoder layer."""
    seen: list[torch.Tensor] = []

    def watch(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    handle = vlm.anatomy.layers[0].register_forward_pre_hook(watch, with_kwargs=True)
    with torch.no_grad():
        vlm.model(**inputs)
    handle.remove()
    return seen[0][0]


def _by_quarter(layout: TokenLayout, moved: torch.Tensor) -> dict[tuple[int, int], float]:
    """The mean change of the cells in each quarter of the picture; cells across its middle are left out."""
    felt: dict[tuple[int, int], list[float]] = {(row, column): [] for row in (0, 1) for column in (0, 1)}
    for grid in layout.grids[0]:
        assert grid.box is not None
        left, top, right, bottom = grid.box
        for row in range(grid.rows):
            for column in range(grid.columns):
                y = top + (row + 0.5) / grid.rows * (bottom - top)
                x = left + (column + 0.5) / grid.columns * (right - left)
                if abs(y - 0.5) > 0.01 and abs(x - 0.5) > 0.01:
                    felt[int(y > 0.5), int(x > 0.5)].append(float(moved[grid.positions[row, column]]))
    return {place: float(np.mean(values)) for place, values in felt.items()}
