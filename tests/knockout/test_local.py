"""Local maps: all rows at once, what is missing, and the algebra behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.plain import eager_twin
from families import BY_NAME
from knockout.plain_impact import farthest, padded, plain_maps
from sightline.attention import AttentionCall, limit_block_bytes
from sightline.attention.knockout import Groups, RowAttention
from sightline.knockout.maps import causal_maps, local_maps


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen3_vl"])
def test_all_rows_are_each_row(name: str) -> None:
    model = BY_NAME[name].model()
    inputs = padded(BY_NAME[name].make_inputs().inputs, 2)
    length = inputs["input_ids"].shape[1]
    groups = [(2,), (6, 7), (length - 3,)]
    every = local_maps(model, inputs, None, groups, rows="all", per_head=True)
    assert every["l2"].shape == (len(every["l2"]), length, 3)
    for row in (4, 7, length - 1):
        before = [number for number, group in enumerate(groups) if max(group) <= row]
        alone = local_maps(model, inputs, None, [groups[number] for number in before], rows=row, per_head=True)
        for name, values in alone.items():
            assert farthest(every[name][..., row, before], values.double()) < 1e-5, name
        after = [number for number in range(3) if number not in before]
        assert bool(every["l2"][:, row, after].isnan().all())
    assert bool(every["l2"][:, :2].isnan().all())


def test_a_row_that_sees_only_the_source_is_missing() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    local = local_maps(model, inputs, None, [(0,)], rows=0, per_head=True)
    causal = causal_maps(model, inputs, None, [(0,)], row=0)
    assert all(bool(values.isnan().all()) for values in local.values())
    assert all(bool(causal[name].isnan().all()) for name in ("logit", "kl", "flip"))
    everything = local_maps(model, inputs, None, [tuple(range(7)), (1,)])
    assert bool(everything["l2"][:, 0].isnan().all())
    assert not bool(everything["l2"][:, 1].isnan().any())


def test_a_key_outside_the_window_has_no_impact() -> None:
    model, inputs = BY_NAME["mistral"].model(), BY_NAME["mistral"].make_inputs().inputs
    row = inputs["input_ids"].shape[1] - 1
    window = model.config.sliding_window
    assert window <= row
    maps = local_maps(model, inputs, None, [(0,), (row - 1,)]) | causal_maps(model, inputs, None, [(0,), (row - 1,)])
    assert not bool(maps["l2"][:, 0].any())
    assert not bool(maps["kl"][:, 0].any())
    assert bool((maps["l2"][:, 1] > 0).all())


def test_chosen_layers_come_in_their_order() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    groups = [(1,), (2, 3)]
    some, every = (local_maps(model, inputs, None, groups, layers=layers) for layers in ([3, 1], None))
    assert torch.allclose(some["l2"], every["l2"][[3, 1]], rtol=1e-5)
    some, every = (causal_maps(model, inputs, None, groups, layers=layers) for layers in ([3, 1], None))
    assert torch.allclose(some["kl"], every["kl"][[3, 1]], rtol=1e-4, atol=1e-9)


def test_learned_sinks_are_weight_that_is_left() -> None:
    """A model whose heads have a learned sink, as gpt-oss has."""
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    model: Any = GptOssForCausalLM(
        GptOssConfig(
            vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=4,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.normal_()
    inputs = {"input_ids": torch.arange(3, 12)[None]}
    groups = [(8,), (7,), (5, 6), tuple(range(9))]
    ours = local_maps(model, inputs, None, groups, per_head=True) | causal_maps(model, inputs, None, groups)
    plain = plain_maps(eager_twin(model), inputs, 8, groups[:3])
    for name in ("l2", "l2_heads", "logit", "kl"):
        assert farthest(ours[name][..., :3], plain[name]) < 1e-4, name
    # With every key hidden the sink takes all, and the answer is still defined.
    assert not bool(ours["kl"].isnan().any())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]), st.floats(0.1, 40), st.booleans())
def test_hiding_equals_a_softmax_without_the_keys(seed: int, kv_heads: int, loudness: float, has_sink: bool) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    keys, row, heads = 9, 7, 4
    query, key, value = draw(1, heads, keys, 6) * loudness, draw(1, kv_heads, keys, 6), draw(1, kv_heads, keys, 5)
    mask = torch.ones(1, 1, keys, keys, dtype=torch.bool).tril()
    mask[..., :2] = False
    sink = draw(heads) if has_sink else None
    call = AttentionCall(
        torch.nn.Identity(), query, key, value, mask, "sdpa", lambda *_: (value, None), {"s_aux": sink}
    )
    attention = RowAttention.of(call, row)
    groups = [(2,), (3, 7), (0, 5), (4, 5, 6), tuple(range(keys)), (8,)]
    hidden = Groups.of(groups, query.device).hidden(torch.arange(len(groups)))

    def plainly(group: tuple[int, ...]) -> torch.Tensor:
        scores = torch.einsum(
            "hd,hkd->hk", query[0, :, row].double(), key[0].repeat_interleave(heads // kv_heads, 0).double()
        )
        scores = (scores * 6**-0.5).masked_fill(~mask[0, 0, row], float("-inf"))
        scores[:, list(group)] = float("-inf")
        if sink is not None:
            scores = torch.cat([scores, sink.double()[:, None]], 1)
        weights = scores.softmax(1)[:, :keys]
        return torch.einsum("hk,hkd->hd", weights, value[0].repeat_interleave(heads // kv_heads, 0).double())

    with limit_block_bytes(500):
        changes = attention.changes(hidden)
    assert attention.is_blind(hidden).tolist() == [False, False, False, False, sink is None, False]
    assert attention.reaches(hidden).tolist() == [True, True, True, True, True, False]
    for number, group in enumerate(groups):
        if sink is not None or number != 4:
            wanted = plainly(group) - plainly(())
            assert torch.allclose(changes[number].double(), wanted, atol=1e-5), group
    again = attention.replaced(
        attention.query.expand(6, -1, -1), key[0, :, row].expand(6, -1, -1), value[0, :, row].expand(6, -1, -1), hidden
    )
    defined = ~attention.is_blind(hidden)
    assert torch.allclose((attention.output() + changes)[defined], again[defined], atol=1e-5)
