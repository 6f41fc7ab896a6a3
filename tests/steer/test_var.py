"""VAR equals its equations in every layer's output, on every family with an image, in every way of generating."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families import FAMILIES, IMAGE, VIDEO, Family, str_of
from sightline.steer import VAR
from steer.plain_var import compare_with_plain

SEEING = [family for family in FAMILIES if family.modality in (IMAGE, VIDEO)]
GREEDY = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
MILD: dict[str, Any] = {"dims": (3, 11), "tau": 1.3, "rho": 0.6, "summ": 0.1, "p": 0.4}
"""In a random model of 32 dimensions about a third of all tokens are above this tau."""


def generate(model: Any, case: Any, **options: Any) -> torch.Tensor:
    return model.generate(**case.inputs, **GREEDY | options)


@pytest.mark.parametrize(("batch", "padding", "images"), [(1, None, 2), (2, "left", 1)])
@pytest.mark.parametrize("family", SEEING, ids=str_of)
def test_equals_the_equations(family: Family, batch: int, padding: str | None, images: int) -> None:
    case = family.make_inputs(batch=batch, padding=padding, images=min(images, family.max_images))
    worst, count = compare_with_plain(
        family.model(), case, lambda model: generate(model, case), VAR(**MILD, skip_last=False)
    )
    assert worst < 1e-5
    assert count > 0
