"""A number of tokens to keep that leaves all of them is said once; schedules and words that cannot be are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families import BY_NAME
from methods.plain_decoding import GREEDY
from sightline.errors import InputError, SightlineWarning
from sightline.methods.attention_edit import AttentionEdit
from sightline.methods.base import parse_spec
from sightline.methods.pyramiddrop import PyramidDrop
from sightline.methods.sparsevlm import SparseVLM


@pytest.mark.filterwarnings("ignore:.*no class token")
@pytest.mark.parametrize(
    "spec", ["cdpruner", "divprune:keep=64", "prune_random:keep=64", "visionzip", "sid", "pyramiddrop:keep=90+80+64"]
)
def test_what_keeps_all_image_tokens_says_that_it_changes_nothing(spec: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    method = parse_spec(spec)
    assert method is not None
    with torch.no_grad():
        plain = model.generate(**case.inputs, **GREEDY)
        with pytest.warns(SightlineWarning, match="changes nothing: it keeps .* tokens, and there"), method.on(model):
            found = model.generate(**case.inputs, **GREEDY)
    assert torch.equal(found, plain)


@pytest.mark.parametrize("method", [PyramidDrop, SparseVLM])
def test_schedules_go_one_way(method: Any) -> None:
    with pytest.raises(InputError, match=r"keep is \(0.5, 0.6, 0.7\) in \w+: give fewer tokens from layer to layer"):
        method(keep=(0.5, 0.6, 0.7))
    with pytest.raises(InputError, match=r"The layers of \w+ are \(4, 2, 1\): give them in order"):
        method(layers=(4, 2, 1))


def test_rows_that_no_edit_knows_are_refused() -> None:
    class Sometimes(AttentionEdit):
        name = "sometimes"
        rows = "sometimes"  # type: ignore[assignment]

    with pytest.raises(InputError, match="rows is 'sometimes' in sometimes: give last, "):
        Sometimes().on(BY_NAME["llava"].model()).__enter__()
