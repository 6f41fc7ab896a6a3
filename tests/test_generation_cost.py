"""What an answer costs: the cache it leaves, its second pass's among it, and the time to its first token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

import sightline as sl
from families import BY_NAME
from methods.plain_decoding import NO_END
from sightline.models.anatomy import find_anatomy
from sightline.probes.generation_cost import GenerationCost, measured_cost
from support.leftovers import state_of


def cost_of(method: Any, tokens: int = 3) -> tuple[GenerationCost, int]:
    """Of an answer of the tiny LLaVA, and the bytes of one position in its cache."""
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    anatomy = find_anatomy(model)
    with torch.no_grad():
        plain = model(**case.inputs, use_cache=True)
    state = state_of(model)
    layer = plain["cache" if "cache" in plain else "past_key_values"].layers[0]
    position = 2 * len(anatomy.layers) * layer.keys[:, :, :1].numel() * layer.keys.element_size()
    with torch.no_grad(), measured_cost(SimpleNamespace(anatomy=anatomy)) as cost, method.on(model):
        model.generate(**case.inputs, max_new_tokens=tokens, do_sample=False, eos_token_id=NO_END, pad_token_id=0)
    assert state_of(model) == state
    return cost, position


def test_caches_are_counted_to_the_byte_with_those_of_a_second_pass() -> None:
    length = BY_NAME["llava"].make_inputs(1, None).inputs["input_ids"].shape[1]
    nothing, position = cost_of(sl.PAI(alpha=0, gamma=1))
    twice, _ = cost_of(sl.VCD())
    shorter, _ = cost_of(sl.DivPrune(keep=4))
    assert nothing.cache_bytes == (length + 2) * position  # the last token is in no pass
    assert twice.cache_bytes == 2 * nothing.cache_bytes
    assert shorter.cache_bytes == (length + 2 - 5) * position


def test_the_first_token_is_timed_also_where_it_is_the_only_one() -> None:
    for tokens in (1, 4):
        cost, _ = cost_of(sl.VCD(), tokens)
        assert cost.prefill_seconds is not None
        assert cost.prefill_seconds > 0


def test_of_what_has_no_anatomy_nothing_is_known() -> None:
    with measured_cost(SimpleNamespace()) as cost:
        pass
    assert (cost.prefill_seconds, cost.cache_bytes) == (None, None)
