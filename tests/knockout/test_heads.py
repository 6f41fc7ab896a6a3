"""What each head does to a token: by taking it away as one would by hand, and by one backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME
from sightline.errors import InputError
from sightline.knockout.heads import head_effects
from sightline.methods.adhh import ADHH
from sightline.models.anatomy import find_anatomy
from sightline.models.transformers_api.cache import cache_from, with_cache
from support.leftovers import state_of

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl", "gemma3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exact_effect_is_that_of_zeros_before_the_output_projection(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    anatomy = find_anatomy(model)
    with torch.no_grad():
        plain = model(**case.inputs).logits[0, -1].float().log_softmax(-1)
    state = state_of(model)
    found = head_effects(model, case.inputs)
    assert found.token == int(plain.argmax())
    assert found.log_probability == pytest.approx(float(plain.max()), abs=1e-5)
    assert found.exact is not None
    for place, head in ((0, 1), (1, 0), (len(found.layers) - 1, 2)):
        attention: Any = anatomy.attentions[found.layers[place]]
        width = attention.o_proj.in_features // anatomy.num_heads

        def silence(module: Any, args: tuple[Tensor], head: int = head, width: int = width) -> tuple[Tensor]:
            changed = args[0].clone()
            changed[..., head * width : (head + 1) * width] = 0
            return (changed,)

        handle = attention.o_proj.register_forward_pre_hook(silence)
        with torch.no_grad():
            without = model(**case.inputs).logits[0, -1].float().log_softmax(-1)[found.token]
        handle.remove()
        assert float(found.exact[place, head]) == pytest.approx(float(without) - found.log_probability, abs=1e-4)
    assert state_of(model) == state


def test_a_head_is_taken_from_the_last_position_alone_as_while_a_token_is_decoded() -> None:
    """Zeros before the output projection in a pass of one token, as in TianyunYoung/Hallucination-Attribution."""
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    found = head_effects(model, case.inputs, positions="last")
    attention: Any = find_anatomy(model).attentions[2]
    width, inputs = attention.o_proj.in_features // 4, case.inputs

    def decoded(m: float) -> float:
        prompt = {**inputs, **{name: inputs[name][:, :-1] for name in ("input_ids", "attention_mask")}}

        def scale(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
            changed = args[0].clone()
            changed[:, :, width : 2 * width] *= m
            return (changed,)

        with torch.no_grad():
            cache = cache_from(model(**prompt, use_cache=True))
            handle = attention.o_proj.register_forward_pre_hook(scale)
            one = {"input_ids": inputs["input_ids"][:, -1:], "attention_mask": inputs["attention_mask"]}
            logits = model(**with_cache(one, cache, model)).logits
        handle.remove()
        return float(logits[0, -1].double().log_softmax(-1)[found.token])

    assert found.exact is not None
    assert float(found.exact[2, 1]) == pytest.approx(decoded(0) - decoded(1), abs=1e-4)
    slope = (decoded(1.01) - decoded(0.99)) / 0.02
    assert float(found.gradient[2, 1]) == pytest.approx(-slope, rel=0.05, abs=1e-5)
    assert not torch.allclose(found.exact, head_effects(model, inputs).exact, atol=1e-4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="positions is some: give all or last"):
        head_effects(model, inputs, positions="some")  # type: ignore[arg-type]


def test_the_gradient_is_the_slope_at_the_untouched_model() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    found = head_effects(model, case.inputs, target=17, exact=False)
    assert found.exact is None
    assert found.agreement is None
    attention: Any = find_anatomy(model).attentions[2]
    width, values = attention.o_proj.in_features // 4, []
    for m in (0.99, 1.01):

        def scale(module: Any, args: tuple[Tensor], m: float = m) -> tuple[Tensor]:
            changed = args[0].clone()
            changed[..., width : 2 * width] *= m
            return (changed,)

        handle = attention.o_proj.register_forward_pre_hook(scale)
        with torch.no_grad():
            values.append(float(model(**case.inputs).logits[0, -1].double().log_softmax(-1)[17]))
        handle.remove()
    assert float(found.gradient[2, 1]) == pytest.approx(-(values[1] - values[0]) / 0.02, rel=0.05, abs=1e-5)
    assert all(value.grad is None for value in model.parameters())


def test_the_strongest_heads_are_what_adhh_takes() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    found = head_effects(model, case.inputs)
    assert found.exact is not None
    heads = found.strongest(3)
    assert [f"{place // 4}.{place % 4}" for place in found.exact.flatten().argsort()[:3].tolist()] == list(heads)
    with ADHH(heads=heads).on(model):
        pass
    document = found.to_dict()
    assert document["agreement"] == found.agreement
    assert found.agreement is not None
    assert -1 <= found.agreement <= 1


def test_two_pictures_that_are_encoded_inside_the_decoder_go_with_each_row() -> None:
    case, model = BY_NAME["chameleon"].make_inputs(1, None, images=2), BY_NAME["chameleon"].model()
    found = head_effects(model, case.inputs, target=17)
    attention: Any = find_anatomy(model).attentions[1]
    width = attention.o_proj.in_features // 4

    def silence(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        changed = args[0].clone()
        changed[..., 2 * width : 3 * width] = 0
        return (changed,)

    handle = attention.o_proj.register_forward_pre_hook(silence)
    with torch.no_grad():
        without = model(**case.inputs).logits[0, -1].float().log_softmax(-1)[17]
    handle.remove()
    assert found.exact is not None
    assert float(found.exact[1, 2]) == pytest.approx(float(without) - found.log_probability, abs=1e-4)


def test_a_batch_and_an_unknown_token_are_refused() -> None:
    model = BY_NAME["llava"].model()
    with pytest.raises(InputError, match="takes one prompt"):
        head_effects(model, BY_NAME["llava"].make_inputs(2, "left").inputs)
    with pytest.raises(InputError, match="no token 99999"):
        head_effects(model, BY_NAME["llava"].make_inputs(1, None).inputs, target=99999)
