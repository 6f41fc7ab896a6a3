"""Methods on families that no rule was written for: they act as on others, or say in a sentence why they can't."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families import BY_NAME
from sightline.errors import ModelError
from support.cells import method_of, run
from support.leftovers import state_of


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("cut_off", "janus"),  # whose own `generate` loses the processors that it is given
        ("vcd", "janus"),
        ("deco", "janus"),
        ("projectaway", "blip2"),  # whose own forward does not run without a picture
        ("projectaway", "kosmos2"),
        ("deco", "aya_vision"),  # whose logits are not scaled as its decoder's are
        ("deco", "chameleon"),  # which never writes the tokens of images
    ],
)
def test_a_method_changes_the_scores_and_leaves_nothing(name: str, family: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    before = run(model, case.inputs)
    state = state_of(model)
    with method_of(name).on(model):
        inside = run(model, case.inputs)
    assert not all(torch.equal(ours, plain) for ours, plain in zip(inside.scores, before.scores, strict=True))
    assert not any(bool(scores.isnan().any()) for scores in inside.scores)
    assert state_of(model) == state
    after: Any = run(model, case.inputs)
    assert torch.equal(after.sequences, before.sequences)


@pytest.mark.parametrize("name", ["divprune", "prune_random", "avisc"])
def test_image_features_that_a_decoder_makes_itself_are_refused(name: str) -> None:
    case, model = BY_NAME["chameleon"].make_inputs(1, None), BY_NAME["chameleon"].model()
    with (
        pytest.raises(ModelError, match=f"{name} works on image features .* makes them inside it"),
        method_of(name).on(model),
    ):
        run(model, case.inputs)
