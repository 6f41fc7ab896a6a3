"""The controls of VAR: as many random tokens, drawn alike wherever the sample stands, and masked keys get nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attention.plain import Rows
from families import BY_NAME, IMAGE, PADDING
from methods.plain_var import MILD as ALL_FIELDS
from methods.plain_var import States, generate, plain_sinks
from sightline.attention import ForwardPass, attach
from sightline.methods.base import parse_spec
from sightline.methods.controls import MaskRandom, MaskSinks, RandomVAR, draw_image_tokens
from sightline.methods.var import VAR
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import layout_of
from support.leftovers import state_of

SINKS = {"dims": (3, 11), "tau": 1.8}
MILD = ALL_FIELDS | SINKS
"""Fewer sinks than image tokens that are none, so that as many can be drawn."""

CONTROLS = [RandomVAR(**MILD), MaskSinks(**SINKS), MaskRandom(**SINKS)]


def weights_under(method: Any, model: Any, case: Any, **options: Any) -> list[dict[int, torch.Tensor]]:
    reader = Rows()
    with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=reader):
        generate(model, case, **options)
    return reader.steps


@pytest.mark.parametrize("name", ["llava", "internvl", "idefics3"])
def test_masked_keys_get_nothing_from_rows_after_the_image(name: str) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    modality = torch.tensor(case.modality)
    plain = weights_under(VAR(**MILD | {"p": 1.0}), model, case)
    for method in (MaskSinks(**SINKS), MaskRandom(**SINKS)):
        states = States(model)
        changed = weights_under(method, model, case)
        states.close()
        marks = plain_sinks(states.steps[0][2], modality, (3, 11), 1.8, 2) & (modality == IMAGE)
        assert bool(marks.any())
        first, before = changed[0][2], plain[0][2]
        for sample in range(2):
            end = int((modality[sample] == IMAGE).nonzero().max()) + 1
            image = modality[sample] == IMAGE
            hidden = (first[sample, :, end:].sum((0, 1)) == 0) & image
            visible_before = before[sample, :, end:].sum((0, 1)) > 0
            assert int(hidden.sum()) == int(marks[sample].sum())
            if not bool(hidden.any()):
                continue
            if method.name == "mask_sinks":
                assert torch.equal(hidden, marks[sample])
            else:
                assert not bool((hidden & marks[sample]).any())
            # The rest of a row grows by what the hidden keys had, in proportion.
            kept = before[sample, :, end:] * ~hidden
            assert torch.allclose(first[sample, :, end:], kept / kept.sum(-1, keepdim=True), atol=1e-5)
            assert torch.equal(first[sample, :, :end], before[sample, :, :end])
            assert bool(visible_before[hidden].any())
            for step in changed[1:]:
                start = step[2].shape[-1] - int(torch.tensor(case.modality).shape[1])
                if start >= 0:
                    assert float(step[2][sample, :, :, : len(hidden)][..., hidden].max()) == 0


def test_random_redistribution_frees_as_many_tokens_and_keeps_the_heads() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    modality = torch.tensor(case.modality)
    plain = weights_under(VAR(**MILD | {"p": 1.0}), model, case)[0][2]
    var = weights_under(VAR(**MILD), model, case)[0][2]
    ours = weights_under(RandomVAR(**MILD), model, case)[0][2]
    only = weights_under(RandomVAR(**MILD, text_sinks=False), model, case)[0][2]
    real = (modality != PADDING)[:, None, :, None]
    assert torch.allclose((ours * real).sum(-1), (plain * real).sum(-1), atol=1e-5)
    assert torch.equal((ours != plain).any(-1), (var != plain).any(-1))
    for sample in range(2):
        rows = (var[sample] != plain[sample]).any(-1)
        lost = [((table[sample] < plain[sample]) & rows[..., None]).any(0).any(0) for table in (var, ours, only)]
        image = modality[sample] == IMAGE
        assert int((lost[0] & image).sum()) == int((lost[1] & image).sum()) == int((lost[2] & image).sum())
        assert not bool((lost[0] & lost[1] & image).any())
        assert torch.equal(lost[0] & ~image, lost[1] & ~image)
        assert not bool((lost[2] & ~image).any())


def step_of(ids: torch.Tensor, case: Any, model: Any) -> ForwardPass:
    layout = layout_of(find_anatomy(model), case.inputs)
    return ForwardPass(0, 0, ids.shape[1], layout, True, False, ids, None, case.inputs)


def test_the_draw_depends_on_seed_layer_and_words_alone() -> None:
    family = BY_NAME["llava"]
    model = family.model()
    one, many = family.make_inputs(images=2), family.make_inputs(batch=2, padding="left", images=2)
    ids = one.inputs["input_ids"]
    image = torch.tensor(one.modality) == IMAGE
    sinks = torch.zeros_like(image)
    sinks[0, image[0].nonzero()[:4, 0]] = True
    drawn = draw_image_tokens(0, 2, step_of(ids, one, model), image, sinks)
    assert int(drawn.sum()) == 4
    assert not bool((drawn & (sinks | ~image)).any())
    assert torch.equal(drawn, draw_image_tokens(0, 2, step_of(ids, one, model), image, sinks))
    assert not torch.equal(drawn, draw_image_tokens(1, 2, step_of(ids, one, model), image, sinks))
    assert not torch.equal(drawn, draw_image_tokens(0, 3, step_of(ids, one, model), image, sinks))
    # The same words at the end of a longer, padded row.
    length = many.inputs["input_ids"].shape[1]
    pad = length - ids.shape[1]
    padded = torch.nn.functional.pad(ids, (pad, 0)).expand(2, -1)
    case = type(one)(
        {"input_ids": padded, "attention_mask": torch.nn.functional.pad(torch.ones_like(ids), (pad, 0)).expand(2, -1)},
        [],
    )
    wide = [torch.nn.functional.pad(part, (pad, 0)).expand(2, -1) for part in (image, sinks)]
    both = draw_image_tokens(0, 2, step_of(padded, case, model), wide[0], wide[1])
    for row in both:
        assert torch.equal(row[pad:], drawn[0])


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_controls_leave_nothing_behind(control: Any, options: dict[str, Any]) -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    plain = generate(model, case)
    state = state_of(model)
    with control.on(model):
        generate(model, case, **options)
    assert state_of(model) == state
    assert torch.equal(generate(model, case), plain)


def test_specs() -> None:
    assert parse_spec("var_random:dims=3,seed=4,text_sinks=no") == RandomVAR(dims=(3,), seed=4, text_sinks=False)
    assert parse_spec("mask_sinks:dims=3") == MaskSinks(dims=(3,))
    assert parse_spec("mask_random:dims=3,seed=2") == MaskRandom(dims=(3,), seed=2)
