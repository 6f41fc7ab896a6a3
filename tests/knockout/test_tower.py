"""Cuts inside the vision tower: equal to a tower that never had the patch's key, in towers of every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from families import BY_NAME
from sightline.errors import InputError, ModelError
from sightline.knockout import Study
from sightline.knockout.tower import cutting, tower_effects
from sightline.knockout.tower_patches import find_patches
from sightline.models.anatomy import find_anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_layers
from sightline.models.layout import layout_of


def plain_logits(anatomy: Any, inputs: Any, layer: int, crops: list[list[int]]) -> torch.Tensor:
    """The model with attention of one tower layer written out: softmax over the keys that are left, for each call."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    module: Any = tower_layers(image_tower(anatomy))[layer][1]
    config, original = module.config, module.config._attn_implementation_internal
    calls = iter(crops)

    def attend(self: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **options: Any) -> Any:
        if self is not module:
            return ALL_ATTENTION_FUNCTIONS[original or "eager"](self, query, key, value, attention_mask, **options)
        scores = query @ key.transpose(-1, -2) * options["scaling"]
        for row in range(len(key)):
            scores[row, :, :, next(calls)] = -torch.inf
        return (scores.softmax(-1) @ value).transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS._global_mapping["plain_cut"] = attend
    config._attn_implementation_internal = "plain_cut"
    try:
        with torch.no_grad():
            return anatomy.model(**inputs).logits[0, -1].double()
    finally:
        config._attn_implementation_internal = original
        del ALL_ATTENTION_FUNCTIONS._global_mapping["plain_cut"]


@pytest.mark.parametrize(("name", "crops"), [("llava", [10]), ("qwen3_vl", [24]), ("llava_next", [10] * 3)])
def test_hidden_is_never_read(name: str, crops: list[int]) -> None:
    family = BY_NAME[name]
    anatomy, case = find_anatomy(family.model()), family.make_inputs()
    layout = layout_of(anatomy, case.inputs)
    found = tower_effects(anatomy, case.inputs, layout, layers=[1])
    with torch.no_grad():
        before = family.model()(**case.inputs).logits[0, -1].double()
    token = int(before.argmax())
    lead = int(crops[0] == 10)  # the class token
    for number in (0, 4, len(found.sources) - 1):
        crop, place = divmod(number, crops[0] - lead)
        hidden: list[list[int]] = [[] for _ in crops]
        hidden[crop] = [place + lead]
        after = plain_logits(anatomy, case.inputs, 1, hidden)
        for measure, change in {
            "logit": after[token] - before[token],
            "logprob": after.log_softmax(0)[token] - before.log_softmax(0)[token],
        }.items():
            assert float(found.maps[measure][0, number]) == pytest.approx(float(change), rel=1e-3, abs=2e-6)
    with torch.no_grad():
        assert torch.equal(family.model()(**case.inputs).logits[0, -1].double(), before)


def test_patches_of_merged_tokens() -> None:
    """Qwen keeps the four patches of a token together, so the tower's order is not row by row."""
    family = BY_NAME["qwen3_vl"]
    anatomy, case = find_anatomy(family.model()), family.make_inputs()
    patches = find_patches(anatomy, case.inputs, layout_of(anatomy, case.inputs), [24])
    assert [(patch.row, patch.col) for patch in patches[:6]] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3)]
    assert len({patch.token for patch in patches[:4]}) == 1
    assert {(patch.row, patch.col) for patch in patches} == {(row, col) for row in range(4) for col in range(6)}


@pytest.mark.parametrize(("name", "first"), [("llava", 1), ("llama4", 0)])
def test_class_tokens_are_no_patches_wherever_they_stand(name: str, first: int) -> None:
    family = BY_NAME[name]
    anatomy, case = find_anatomy(family.model()), family.make_inputs()
    (found,) = Study(mode="tower", layers=(0,)).run(anatomy.model, case.inputs)
    assert (found.tokens[0].row, found.tokens[0].col) == (0, 0)
    with cutting(anatomy) as state, torch.no_grad():
        anatomy.model(**case.inputs)
        sizes = state.sizes[0]
    assert len(found.tokens) == sum(sizes) - len(sizes), f"{first} is a class token in each crop"


def test_blocks_and_windows() -> None:
    family = BY_NAME["llava"]
    model, case = family.model(), family.make_inputs()
    (found,) = Study(mode="tower", block=2, window=2).run(model, case.inputs)
    assert [len(source.positions) for source in found.tokens] == [4, 2, 2, 1]
    assert "l2" not in found.maps, "with a window the layer's input has changed as well"
    (single,) = Study(mode="tower", block=3).run(model, case.inputs)
    assert len(single.tokens) == 1
    assert np.isfinite(single.maps["l2"]).all()
    assert (single.maps["l2"] > 0).all()


def test_one_sentence_each() -> None:
    llava = BY_NAME["llava"]
    with pytest.raises(InputError, match="Layer 9 is out of range: the vision tower has layers 0 to"):
        Study(mode="tower", layers=(9,)).run(llava.model(), llava.make_inputs().inputs)
    with pytest.raises(InputError, match="the inputs have 2"):
        Study(mode="tower").run(llava.model(), llava.make_inputs(batch=2).inputs)
    with pytest.raises(InputError, match="no picture"):
        Study(mode="tower").run(llava.model(), {"input_ids": torch.tensor([[5, 6, 7]])})
    windows, own = BY_NAME["qwen2_5_vl"], BY_NAME["fuyu"]
    with pytest.raises(ModelError, match="looks through windows"):
        Study(mode="tower").run(windows.model(), windows.make_inputs().inputs)
    with pytest.raises(ModelError, match="has no vision tower"):
        Study(mode="tower").run(own.model(), own.make_inputs().inputs)


def test_nothing_stays_behind_after_an_error() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    anatomy = find_anatomy(BY_NAME["llava"].model())
    names = set(ALL_ATTENTION_FUNCTIONS._global_mapping)
    config: Any = tower_layers(image_tower(anatomy))[0][1].config
    before = config._attn_implementation_internal
    handle = tower_layers(image_tower(anatomy))[1][0].register_forward_pre_hook(_fails)
    with pytest.raises(RuntimeError, match="inside"):
        Study(mode="tower").run(anatomy.model, BY_NAME["llava"].make_inputs().inputs)
    handle.remove()
    assert config._attn_implementation_internal == before
    assert set(ALL_ATTENTION_FUNCTIONS._global_mapping) == names
    assert not image_tower(anatomy)._forward_pre_hooks  # type: ignore[union-attr]


def _fails(*_args: Any) -> None:
    raise RuntimeError("inside")
