"""Granite Vision adds the picture in front of single layers: what needs it in the prompt is refused, the rest holds."""

from __future__ import annotations

import pytest
import torch

import sightline as sl
from families import BY_NAME
from sightline.errors import ModelError
from sightline.knockout.deepstack import find_injections
from sightline.methods.base import parse_spec
from sightline.models.anatomy import find_anatomy

GRANITE = BY_NAME["granite4_vision"]


@pytest.mark.parametrize("spec", ["divprune", "visionzip", "fastervlm", "prune_random", "avisc"])
def test_what_cuts_or_silences_the_prompts_picture_is_refused(spec: str) -> None:
    method, model = parse_spec(spec), GRANITE.model()
    assert method is not None
    case = GRANITE.make_inputs(1)
    with pytest.raises(ModelError, match="adds it in front of single layers alone"), method.on(model):
        model.generate(**case.inputs, max_new_tokens=1)


def test_a_contrast_says_why_it_cannot_follow() -> None:
    case, model = GRANITE.make_inputs(1), GRANITE.model()
    with pytest.raises(sl.SightlineError, match="gives none back"), sl.VCD().on(model):
        model.generate(**case.inputs, max_new_tokens=3, eos_token_id=-1)


def test_what_is_added_is_found_layer_by_layer() -> None:
    found = find_injections(find_anatomy(GRANITE.model()), GRANITE.make_inputs(1).inputs)
    assert found.layers == (0, 1, 2, 3, 4)
    assert torch.equal(found.places, (GRANITE.make_inputs(1).inputs["input_ids"][0] == 120).nonzero()[:, 0])
