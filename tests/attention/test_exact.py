"""Every way of reading attention equals the plain eager formula, on every family."""

from __future__ import annotations

import pytest
import torch
from attention.plain import Rows, plain_attentions, plain_generation
from families import FAMILIES, PADDING, Family, str_of

from sightline.anatomy import find_anatomy
from sightline.attention import lend, limit_block_bytes

TOLERANCE = 1e-5
BATCHES = [(1, None), (2, "left"), (2, "right")]


def real_rows(modality: list[list[int]]) -> torch.Tensor:
    return torch.tensor(modality) != PADDING


def close(ours: torch.Tensor, plain: torch.Tensor, rows: torch.Tensor) -> bool:
    """Within tolerance on the rows that are not padding."""
    difference = (ours - plain[..., : ours.shape[-1]]).abs().amax((1, 3))
    return bool(difference[rows].max() < TOLERANCE)


@pytest.mark.parametrize(("batch", "padding"), BATCHES)
@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_prompt_rows_and_groups_equal_eager(family: Family, batch: int, padding: str | None) -> None:
    case = family.make_inputs(batch=batch, padding=padding)
    model, anatomy = family.model(), find_anatomy(family.model())
    plain = plain_attentions(model, anatomy, case.inputs)
    reader, masses = Rows(), {}

    class Masses(Rows):
        def read(self, layer, attention, step):
            masses[layer] = attention.group_mass(membership[:, : attention.call.keys])

    rows = real_rows(case.modality)
    membership = torch.stack([rows & (torch.tensor(case.modality) == kind) for kind in range(1, 5)], -1).float()
    with torch.no_grad(), lend(anatomy, reader=reader), lend(anatomy, reader=Masses()), limit_block_bytes(20_000):
        model(**case.inputs)
    assert sorted(reader.steps[0]) == list(anatomy.attention_layers)
    for layer, weights in reader.steps[0].items():
        assert close(weights, plain[layer], rows), f"rows of layer {layer}"
        expected = torch.einsum("bhqk,bkg->bhqg", plain[layer][..., : membership.shape[1]].float(), membership)
        difference = (masses[layer] - expected).abs().amax((1, 3))
        assert difference[rows].max() < TOLERANCE, f"groups of layer {layer}"


@pytest.mark.parametrize(("batch", "padding"), [(1, None), (2, "left")])
@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_decoding_rows_equal_eager(family: Family, batch: int, padding: str | None) -> None:
    case = family.make_inputs(batch=batch, padding=padding)
    model, anatomy = family.model(), find_anatomy(family.model())
    plain = plain_generation(model, anatomy, case.inputs, 4)
    reader = Rows()
    with torch.no_grad(), lend(anatomy, reader=reader):
        model.generate(**case.inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert len(reader.steps) == len(plain) == 4
    for number, (ours, theirs) in enumerate(zip(reader.steps, plain, strict=True)):
        rows = real_rows(case.modality) if number == 0 else torch.ones((batch, 1), dtype=torch.bool)
        for layer, weights in ours.items():
            assert close(weights, theirs[layer][..., -weights.shape[-1] :], rows), f"step {number}, layer {layer}"


@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_logits_while_reading_are_bit_identical_and_nothing_is_left(family: Family) -> None:
    case = family.make_inputs(batch=2, padding="left")
    model, anatomy = family.model(), find_anatomy(family.model())
    with torch.no_grad():
        before = model(**case.inputs).logits
        configuration = [module.config._attn_implementation for module in model.modules() if hasattr(module, "config")]
        with lend(anatomy, reader=Rows()):
            during = model(**case.inputs).logits
        after = model(**case.inputs).logits
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert configuration == [
        module.config._attn_implementation for module in model.modules() if hasattr(module, "config")
    ]
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
