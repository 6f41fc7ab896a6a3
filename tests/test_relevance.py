"""Relevance equals the product of whole squares, row of the answer: rollout, relevancy, gradient x attention."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import sightline as sl
from families import BY_NAME
from sightline.attention import limit_block_bytes
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import find_anatomy
from support.leftovers import state_of

FAMILIES = ["llava", "qwen2_5_vl", "gemma3"]


@contextmanager
def kept_squares(model: Any) -> Iterator[list[Tensor]]:
    """Inside, the model runs on eager weights that a gradient can be asked of; they are listed, layer by layer."""
    anatomy, kept = find_anatomy(model), []

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, Any]:
        eager = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
        _, weights = eager(module, query, key, value, mask, **options)
        weights = weights if weights.requires_grad else weights.detach().requires_grad_()
        kept.append(weights)
        heads = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return torch.einsum("bhqk,bhkd->bqhd", weights, heads), weights

    AttentionInterface.register("kept", attention)
    AttentionMaskInterface.register("kept", eager_mask)
    configs = {id(module.config): module.config for module in (anatomy.decoder, *filter(None, anatomy.attentions))}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = "kept"
    try:
        yield kept
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        for interface in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
            type(interface)._global_mapping.pop("kept")


@cache
def plain(family: str, token: int) -> dict[str, Tensor]:
    """[layers, positions] of each kind, by products of whole squares."""
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    with kept_squares(model) as squares, torch.enable_grad():
        logits = model(**case.inputs, use_cache=False).logits[0, -1]
        slopes = torch.autograd.grad(logits[token], squares)
    eye = torch.eye(squares[0].shape[-1])
    weighted = [(a * g).clamp_min(0)[0].mean(0).detach() for a, g in zip(squares, slopes, strict=True)]
    mixed = [(a[0].mean(0).detach() + eye) / 2 for a in squares]
    found: dict[str, list[Tensor]] = {"rollout": [], "relevancy": [], "gradient": [part[-1] for part in weighted]}
    for layer in range(len(squares)):
        rollout, relevancy = eye, eye
        for above in range(layer, len(squares)):
            rollout = mixed[above] @ rollout
            relevancy = relevancy + weighted[above] @ relevancy
        found["rollout"].append(rollout[-1])
        found["relevancy"].append(relevancy[-1])
    return {kind: torch.stack(rows) for kind, rows in found.items()}


@pytest.mark.parametrize("kind", ["rollout", "relevancy", "gradient"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_row_is_that_of_the_whole_product(family: str, kind: Any) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    model(**case.inputs)  # the library installs hooks of its own at the first pass
    state = state_of(model)
    with limit_block_bytes(2000):  # several blocks a layer
        found = sl.relevance(model, case.inputs, kind, target=17)
    assert torch.allclose(found.values, plain(family, 17)[kind], atol=1e-5, rtol=1e-3)
    assert state_of(model) == state
    assert all(value.grad is None for value in model.parameters())
    assert found.map().shape == case.grids[0][0]  # type: ignore[index]


def test_rollout_hands_on_all_there_is() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    found = sl.relevance(model, case.inputs, "rollout")
    assert found.values.sum(1) == pytest.approx(torch.ones(len(found.values)))
    assert 0 < found.image_share < 1


def test_a_bare_word_is_refused_in_a_sentence() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with pytest.raises(InputError, match="no relevance called 'flow'; use relevancy, rollout or gradient"):
        sl.relevance(model, case.inputs, "flow")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="takes one prompt"):
        sl.relevance(model, BY_NAME["llava"].make_inputs(2, "left").inputs)
    with pytest.raises(InputError, match="no token 99999"):
        sl.relevance(model, case.inputs, target=99999)
    with pytest.raises(ModelError, match="no softmax attention to go through"):
        sl.relevance(BY_NAME["qwen3_5"].model(), BY_NAME["qwen3_5"].make_inputs(1, None).inputs, "rollout")
