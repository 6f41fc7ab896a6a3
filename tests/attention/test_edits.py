"""Edited rows equal the plain formula, the others the model's own kernel, and readers see what the model uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attention.plain import Rows
from families import BY_NAME, FAMILIES, Family, str_of
from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach, limit_block_bytes
from sightline.models.anatomy import find_anatomy
from support.leftovers import state_of

GENERATE = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


class Change:
    """An editor of the last `count` rows of every call in the given layers."""

    def __init__(
        self,
        scores: Callable[[Block], torch.Tensor] | None = None,
        weights: Callable[[Block], torch.Tensor] | None = None,
        count: int = 3,
        layers: set[int] | None = None,
    ) -> None:
        self.scores, self.weights, self.count, self.layers = scores, weights, count, layers

    def begin(self, step: ForwardPass) -> None:
        pass

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        if self.layers is not None and layer not in self.layers:
            return None
        rows = torch.arange(max(0, call.queries - self.count), call.queries)
        return Edit(rows, self.scores, self.weights)


def unchanged(block: Block) -> torch.Tensor:
    return block.values


def favour_first(block: Block) -> torch.Tensor:
    """Adds to the score of the key in the middle, by head, so that a mix-up of heads or rows would show."""
    heads = torch.arange(block.head, block.head + block.values.shape[1])[None, :, None]
    changed = block.values.clone()
    changed[..., 2] += 0.5 + 0.1 * heads
    return changed


def halve_second(block: Block) -> torch.Tensor:
    changed = block.values.clone()
    changed[..., 1] *= 0.5
    return changed


@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_an_edit_that_changes_nothing_gives_the_same_logits(family: Family) -> None:
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    anatomy = find_anatomy(model)
    real = case.inputs["attention_mask"].bool()
    with torch.no_grad():
        plain = model(**case.inputs).logits[real]
        state = state_of(model)
        with attach(anatomy, editor=Change(scores=unchanged, weights=unchanged, count=10_000)):
            ours = model(**case.inputs).logits[real]
    assert torch.allclose(ours, plain, atol=2e-3 if family.name in ("qwen3_5", "gemma4") else 1e-4)
    assert state_of(model) == state


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3", "gemma2"])
@pytest.mark.parametrize("count", [1, 3, 10_000])
def test_edited_rows_equal_the_formula(name: str, count: int) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(), family.model()
    anatomy = find_anatomy(model)
    outputs: dict[int, tuple[Any, torch.Tensor]] = {}

    class Outputs(Rows):
        def read(self, layer: int, attention: Any, step: ForwardPass) -> None:
            super().read(layer, attention, step)
            outputs[layer] = (attention, attention.output())

    editor = Change(favour_first, halve_second, count)
    reader, before = Outputs(), Rows()
    with torch.no_grad(), attach(anatomy, editor=editor), attach(anatomy, reader=reader), limit_block_bytes(3_000):
        model(**case.inputs)
    for layer, (attention, output) in outputs.items():
        call = attention.call
        plain_call = type(attention)(call)
        rows = torch.arange(call.queries)
        weights = plain_call.row_weights(rows)
        mine = rows[-count:]
        # The plain formula: exp of the changed score over the sum, from the unchanged weights.
        factor = torch.exp(0.5 + 0.1 * torch.arange(call.heads))[None, :, None]
        changed = weights[:, :, mine].clone()
        changed[..., 2] *= factor
        changed /= changed.sum(-1, keepdim=True)
        changed[..., 1] *= 0.5
        weights[:, :, mine] = changed
        assert torch.allclose(reader.steps[0][layer], weights, atol=1e-5)
        value = call.value.repeat_interleave(call.group_size, 1)
        expected = torch.einsum("bhqk,bhkd->bqhd", weights, value)
        assert torch.allclose(output, expected, atol=1e-5), f"layer {layer}"
        member = torch.rand(1, call.keys, 3)
        assert torch.allclose(attention.group_mass(member), weights @ member[:, None], atol=1e-5)
    assert not before.steps


def test_two_editors_act_in_the_order_of_entry() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    anatomy = find_anatomy(model)
    order: list[str] = []

    def named(name: str) -> Callable[[Block], torch.Tensor]:
        def change(block: Block) -> torch.Tensor:
            order.append(name)
            return block.values

        return change

    first, second = (Change(weights=named(name), count=1, layers={2}) for name in ("first", "second"))
    with torch.no_grad(), attach(anatomy, editor=first), attach(anatomy, editor=second):
        model(**case.inputs)
    assert order == ["first", "second"]


def test_an_edit_changes_generation_and_an_exception_leaves_nothing() -> None:
    family = BY_NAME["qwen2_vl"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    anatomy = find_anatomy(model)

    def silence(block: Block) -> torch.Tensor:
        return torch.zeros_like(block.values)

    with torch.no_grad():
        plain = model.generate(**case.inputs, **GENERATE, output_logits=True, return_dict_in_generate=True)
        state = state_of(model)
        with attach(anatomy, editor=Change(weights=silence, count=1)):
            edited = model.generate(**case.inputs, **GENERATE, output_logits=True, return_dict_in_generate=True)
        assert not torch.allclose(plain.logits[0], edited.logits[0])
        with (
            pytest.raises(ZeroDivisionError),
            attach(anatomy, editor=Change(weights=lambda block: block.values / (1 // 0))),
        ):
            model(**case.inputs)
        assert state_of(model) == state
        again = model.generate(**case.inputs, **GENERATE, output_logits=True, return_dict_in_generate=True)
    assert torch.equal(plain.logits[0], again.logits[0])


def test_edits_carry_gradients() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.build()
    anatomy = find_anatomy(model)
    grads = []
    for editor in (None, Change(unchanged, unchanged, 4)):
        model.zero_grad()
        with attach(anatomy, editor=editor):
            model(**case.inputs).logits.square().sum().backward()
        grads.append(anatomy.embedding.weight.grad.clone())
    assert torch.allclose(grads[0], grads[1], rtol=1e-3, atol=1e-3 * float(grads[0].abs().max()))
