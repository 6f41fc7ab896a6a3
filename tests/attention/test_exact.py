"""Every way of reading attention equals the plain eager formula, on every family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attention.plain import GENERATE, TOLERANCE, Masks, Rows, eager_twin, plain_weights, real_rows
from families import BY_NAME, EVERY, FAMILIES, Family, str_of
from sightline.attention import EditedCall, ForwardPass, attach, limit_block_bytes
from sightline.models.anatomy import find_anatomy
from support.leftovers import state_of

BATCHES = [("sdpa", 1, None), ("sdpa", 2, "left"), ("sdpa", 2, "right"), ("eager", 2, "left")]


def worst(ours: Tensor, plain: Tensor, rows: Tensor) -> float:
    """The largest difference on the rows that are not padding."""
    return float((ours - plain).abs().amax((1, 3))[rows].max())


class Masses:
    """A reader that keeps the masses of the groups of `membership` over all rows, by layer of the first pass."""

    def __init__(self, membership: Tensor) -> None:
        self.membership = membership
        self.layers: dict[int, Tensor] = {}

    def begin(self, step: ForwardPass) -> None:
        pass

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        self.layers[layer] = attention.group_mass(self.membership[:, : attention.call.keys])

    def end(self, step: ForwardPass) -> None:
        pass


@pytest.mark.parametrize(("implementation", "batch", "padding"), BATCHES)
@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_prompt_rows_and_groups_equal_eager(
    family: Family, implementation: str, batch: int, padding: str | None
) -> None:
    case = family.make_inputs(batch=batch, padding=padding)
    twin = eager_twin(family.model())
    model = family.model() if implementation == "sdpa" else twin
    anatomy = find_anatomy(model)
    rows = real_rows(case.modality)
    # Overlapping and fractional groups too: each modality, and random weights.
    planes = [rows & (torch.tensor(case.modality) == kind) for kind in range(1, 5)]
    membership = torch.stack([*planes, torch.rand(rows.shape)], -1).float()
    masks, reader, masses = Masks(), Rows(), Masses(membership)
    with torch.no_grad(), attach(find_anatomy(twin), reader=masks):
        twin(**case.inputs)
    with torch.no_grad(), attach(anatomy, reader=reader), attach(anatomy, reader=masses), limit_block_bytes(20_000):
        model(**case.inputs)
    assert sorted(reader.steps[0]) == list(anatomy.attention_layers)
    for layer, weights in reader.steps[0].items():
        plain = plain_weights(reader.calls[0][layer].call, masks.steps[0][layer])
        assert worst(weights, plain, rows) < TOLERANCE, f"rows of layer {layer}"
        assert torch.allclose(weights.sum(-1)[rows[:, None].expand(weights.shape[:3])], torch.tensor(1.0), atol=1e-5)
        expected = torch.einsum("bhqk,bkg->bhqg", plain, membership)
        assert worst(masses.layers[layer], expected, rows) < TOLERANCE, f"groups of layer {layer}"


@pytest.mark.parametrize(("batch", "padding"), [(1, None), (2, "left")])
@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_decoding_rows_equal_eager(family: Family, batch: int, padding: str | None) -> None:
    case = family.make_inputs(batch=batch, padding=padding)
    model, twin = family.model(), eager_twin(family.model())
    masks, reader = Masks(), Rows()
    with torch.no_grad(), attach(find_anatomy(twin), reader=masks):
        twin.generate(**case.inputs, **GENERATE)
    with torch.no_grad(), attach(find_anatomy(model), reader=reader):
        model.generate(**case.inputs, **GENERATE)
    assert len(reader.steps) == len(masks.steps) == 3
    assert [step.is_decoding for step in reader.seen] == [False, True, True]
    for number, ours in enumerate(reader.steps):
        rows = real_rows(case.modality) if number == 0 else torch.ones((batch, 1), dtype=torch.bool)
        for layer, weights in ours.items():
            plain = plain_weights(reader.calls[number][layer].call, masks.steps[number][layer])
            assert worst(weights, plain, rows) < TOLERANCE, f"step {number}, layer {layer}"


@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_logits_while_reading_are_bit_identical_and_nothing_is_left(family: Family) -> None:
    case = family.make_inputs(batch=2, padding="left")
    model, anatomy = family.model(), find_anatomy(family.model())
    with torch.no_grad():
        before = model(**case.inputs).logits
        state = state_of(model)
        with attach(anatomy, reader=Rows()):
            during = model(**case.inputs).logits
        after = model(**case.inputs).logits
    # NaN in rows of padding is equal to itself here.
    assert torch.equal(before.nan_to_num(7.0), during.nan_to_num(7.0))
    assert torch.equal(before.nan_to_num(7.0), after.nan_to_num(7.0))
    assert state_of(model) == state


def test_two_models_at_once_left_in_any_order() -> None:
    first, second = BY_NAME["llava"].model(), eager_twin(BY_NAME["qwen2_vl"].model())
    case = BY_NAME["llava"].make_inputs()
    with torch.no_grad():
        first(**case.inputs)  # the library installs hooks of its own at the first pass
    states = [state_of(first), state_of(second)]
    opened = [attach(find_anatomy(model), reader=Rows()) for model in (first, second, first)]
    for entry in opened:
        entry.__enter__()
    opened[0].__exit__(None, None, None)
    reader = Rows()
    with torch.no_grad(), attach(find_anatomy(first), reader=reader):
        first(**case.inputs)
    assert reader.steps
    assert sorted(reader.steps[0]) == list(find_anatomy(first).attention_layers)
    for entry in opened[1:]:
        entry.__exit__(None, None, None)
    assert [state_of(first), state_of(second)] == states
