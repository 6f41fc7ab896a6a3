"""DeepStack's additions left out: equal to a model whose own addition is changed, and nothing stays behind."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from families import BY_NAME
from sightline.errors import InputError, ModelError
from sightline.knockout import ImpactMap, Source, Study
from sightline.knockout.deepstack import deepstack_effects, find_injections
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import layout_of

FAMILIES = ("qwen3_vl", "qwen3_vl_moe")


def plain_logits(model: Any, decoder: Any, inputs: Any, layer: int, places: tuple[int, ...]) -> torch.Tensor:
    """The model with zeros in the addition after one layer, by its own method for it."""
    original, calls = type(decoder)._deepstack_process, [0]

    def process(self: Any, hidden: Any, mask: Any, features: Any) -> Any:
        calls[0] += 1
        if calls[0] - 1 == layer:
            slots = torch.isin(mask.reshape(-1).nonzero()[:, 0], torch.tensor(places))
            features = features.masked_fill(slots[:, None], 0)
        return original(self, hidden, mask, features)

    decoder._deepstack_process = types.MethodType(process, decoder)
    try:
        with torch.no_grad():
            return model(**inputs).logits[0, -1].double()
    finally:
        del decoder._deepstack_process


@pytest.mark.parametrize("name", FAMILIES)
def test_left_out_is_added_as_zero(name: str) -> None:
    family = BY_NAME[name]
    model, case = family.model(), family.make_inputs(images=2)
    anatomy = find_anatomy(model)
    layout = layout_of(anatomy, case.inputs)
    places = find_injections(anatomy, case.inputs).places.tolist()
    sources = [Source((places[0],)), Source(tuple(places[1:4])), Source((0,))]
    found = deepstack_effects(anatomy, case.inputs, layout, sources)
    assert found.layers == (0, 1)
    assert found.sources[0].positions == tuple(places)
    with torch.no_grad():
        before = model(**case.inputs).logits[0, -1].double()
    token = int(before.argmax())
    for layer in found.layers:
        for column, source in enumerate(found.sources[:3]):
            after = plain_logits(model, anatomy.decoder, case.inputs, layer, source.positions)
            change = after.log_softmax(0)[token] - before.log_softmax(0)[token]
            assert float(found.maps["logprob"][layer, column]) == pytest.approx(float(change), rel=1e-4, abs=1e-5)
            assert float(found.maps["logit"][layer, column]) == pytest.approx(
                float(after[token] - before[token]), rel=1e-4, abs=1e-5
            )
    assert torch.isnan(found.maps["kl"][:, 3]).all(), "text gets no addition"


def test_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.knockout.deepstack.POSITIONS", 40)  # batches of one or two
    family = BY_NAME["qwen3_vl"]
    case = family.make_inputs()
    (found,) = Study(mode="deepstack", layers=(1,)).run(family.model(), case.inputs)
    assert isinstance(found, ImpactMap)
    assert found.tokens[0].text == "all injections"
    assert len(found.tokens) == 1 + 6
    assert (found.tokens[1].row, found.tokens[1].col) == (0, 0)
    assert found.layers == (1,)
    (whole,) = Study(mode="deepstack").run(family.model(), case.inputs)
    assert whole.maps["logit"][1].tolist() == pytest.approx(found.maps["logit"][0].tolist(), abs=1e-5)


def test_nothing_stays_behind_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    family = BY_NAME["qwen3_vl"]
    model, case = family.model(), family.make_inputs()
    anatomy = find_anatomy(model)
    with torch.no_grad():
        before = model(**case.inputs).logits
    calls = []

    def fails(*_args: Any) -> None:
        calls.append(len(anatomy.decoder._forward_pre_hooks))
        if len(calls) == 3:
            raise RuntimeError("in the middle")

    handle = anatomy.layers[1].register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        deepstack_effects(anatomy, case.inputs, layout_of(anatomy, case.inputs), [])
    handle.remove()
    # The guard at the decoder's door, and in the first and third pass the hook that finds or leaves out.
    assert calls == [2, 1, 2]
    assert not anatomy.decoder._forward_pre_hooks
    with torch.no_grad():
        assert torch.equal(model(**case.inputs).logits, before)


def test_one_sentence_each() -> None:
    family = BY_NAME["qwen3_vl"]
    model, case = family.model(), family.make_inputs()
    anatomy = find_anatomy(model)
    with pytest.raises(InputError, match="Nothing is added after layer 7: this model adds vision features after 0, 1"):
        Study(mode="deepstack", layers=(7,)).run(model, case.inputs)
    with pytest.raises(InputError, match="the inputs have 2"):
        find_injections(anatomy, family.make_inputs(batch=2).inputs)
    with pytest.raises(InputError, match="no image"):
        find_injections(anatomy, {"input_ids": torch.tensor([[5, 6, 7]])})
    llava = BY_NAME["llava"]
    with pytest.raises(ModelError, match="adds no vision features after its decoder layers"):
        Study(mode="deepstack").run(llava.model(), llava.make_inputs().inputs)
