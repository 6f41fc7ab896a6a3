"""Laws of rows, groups and masks on single calls, for any shape: hypothesis draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sightline.attention import AttentionCall, group_mass, limit_block_bytes, row_mass, row_weights
from sightline.errors import InputError
from sightline.memory import block_bytes


@dataclass(frozen=True)
class Shape:
    batch: int
    kv_heads: int
    group: int
    past: int
    queries: int
    width: int
    seed: int


shapes = st.builds(
    Shape,
    batch=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    past=st.integers(0, 5),
    queries=st.integers(1, 9),
    width=st.sampled_from([4, 8, 12]),
    seed=st.integers(0, 2**16),
)


def make(shape: Shape, kind: str) -> AttentionCall:
    """A call with random tensors and a causal mask of the given kind, left-padded in every sample but the first."""
    torch.manual_seed(shape.seed)
    keys = shape.past + shape.queries
    heads = shape.kv_heads * shape.group
    query = torch.randn(shape.batch, heads, shape.queries, shape.width)
    key, value = torch.randn(2, shape.batch, shape.kv_heads, keys, shape.width)
    module = nn.Module()
    module.num_key_value_groups = shape.group  # type: ignore[assignment]
    rows, columns = torch.arange(shape.queries)[:, None] + shape.past, torch.arange(keys)
    seen = (columns <= rows).expand(shape.batch, 1, -1, -1).clone()
    for sample in range(1, shape.batch):
        seen[sample, :, :, : min(sample, shape.past)] = False
    masks: dict[str, Any] = {
        "bool": seen,
        "float": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min),
        "bias": torch.randn(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min),
        "per head": seen & (torch.rand(shape.batch, heads, shape.queries, keys) < 0.7),
    }
    return AttentionCall(module, query, key, value, masks[kind], "sdpa", sdpa_attention_forward, {}, offset=shape.past)


def plain(call: AttentionCall) -> torch.Tensor:
    """softmax(q k / sqrt(d) + mask), rows that see nothing 0."""
    key = call.key.repeat_interleave(call.group_size, 1)
    scores = call.query @ key.transpose(-1, -2) / math.sqrt(call.query.shape[-1])
    mask = call.mask if call.mask.is_floating_point() else torch.where(call.mask, 0.0, -torch.inf)
    return torch.softmax(scores + mask, -1).nan_to_num(0.0)


@pytest.mark.parametrize("kind", ["bool", "float", "bias", "per head"])
@given(shape=shapes, limit=st.sampled_from([1, 700, 2**20]))
def test_rows_and_masses_equal_the_formula_in_blocks_of_any_size(kind: str, shape: Shape, limit: int) -> None:
    call = make(shape, kind)
    rows = torch.randperm(shape.queries)[: max(1, shape.queries // 2)].sort().values
    expected = plain(call)
    member = torch.rand(shape.batch, call.keys, 3)
    with limit_block_bytes(limit):
        assert torch.allclose(row_weights(call, rows), expected[:, :, rows], atol=1e-5)
        assert torch.allclose(row_mass(call, rows, member), (expected @ member[:, None])[:, :, rows], atol=1e-5)
        assert torch.allclose(group_mass(call, member), expected @ member[:, None], atol=1e-5)


@given(shape=shapes, count=st.integers(1, 30))
def test_masses_of_a_partition_sum_to_one(shape: Shape, count: int) -> None:
    call = make(shape, "bool")
    groups = torch.randint(count, (shape.batch, call.keys))
    member = nn.functional.one_hot(groups, count).float()
    mass = group_mass(call, member)
    assert mass.shape == (shape.batch, call.heads, shape.queries, count)
    assert torch.allclose(mass.sum(-1), torch.ones(mass.shape[:-1]), atol=1e-5)
    assert bool((mass >= 0).all())


@given(shape=shapes, cap=st.floats(0.5, 50))
def test_soft_capping(shape: Shape, cap: float) -> None:
    call = make(shape, "bool")
    capped = AttentionCall(
        call.module, call.query, call.key, call.value, call.mask, "eager", call.original, {"softcap": cap}, call.offset
    )
    key = call.key.repeat_interleave(call.group_size, 1)
    scores = torch.tanh(call.query @ key.transpose(-1, -2) / math.sqrt(shape.width) / cap) * cap
    expected = torch.softmax(torch.where(call.mask, scores, -torch.inf), -1)
    assert torch.allclose(row_weights(capped, torch.arange(shape.queries)), expected, atol=1e-5)
    under_sdpa = replace(capped, implementation="sdpa")  # which leaves caps out
    uncapped = row_weights(call, torch.arange(shape.queries))
    assert torch.equal(row_weights(under_sdpa, torch.arange(shape.queries)), uncapped)


@given(shape=shapes)
def test_a_learned_sink_takes_its_share(shape: Shape) -> None:
    call = make(shape, "bool")
    sink = torch.randn(call.heads)
    with_sink = AttentionCall(
        call.module, call.query, call.key, call.value, call.mask, "eager", call.original, {"s_aux": sink}, call.offset
    )
    key = call.key.repeat_interleave(call.group_size, 1)
    scores = torch.where(call.mask, call.query @ key.transpose(-1, -2) / math.sqrt(shape.width), -torch.inf)
    column = sink[None, :, None, None].expand(*scores.shape[:3], 1)
    expected = torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]
    with limit_block_bytes(1):
        assert torch.allclose(row_weights(with_sink, torch.arange(shape.queries)), expected, atol=1e-5)


@given(shape=shapes, window=st.integers(1, 8))
def test_flash_attention_says_hidden_by_padding_and_window(shape: Shape, window: int) -> None:
    """FlashAttention gets no square mask: the rule is in its arguments."""
    call = make(shape, "bool")
    padding = call.mask[:, 0, -1].long()
    options = {"sliding_window": window}
    flash = AttentionCall(
        call.module, call.query, call.key, call.value, padding, "flash_attention_2", call.original, options, call.offset
    )
    rows, columns = torch.arange(shape.queries)[:, None] + shape.past, torch.arange(call.keys)
    expected = call.mask & (columns > rows - window)
    assert torch.equal(flash.visible(torch.arange(shape.queries)).expand_as(expected), expected)


def test_no_mask_means_what_each_implementation_means() -> None:
    call = make(Shape(1, 2, 1, 0, 4, 8, 0), "bool")
    rows = torch.arange(4)

    def seen(implementation: str, **options: Any) -> list[int]:
        bare = AttentionCall(
            call.module, call.query, call.key, call.value, None, implementation, call.original, options
        )
        return bare.visible(rows).sum(-1).flatten().tolist()

    assert seen("sdpa") == [1, 2, 3, 4]
    assert seen("sdpa", is_causal=False) == [4, 4, 4, 4]
    assert seen("flash_attention_2") == [1, 2, 3, 4]
    assert seen("eager") == [4, 4, 4, 4]


def test_flex_attention_is_asked_for_its_rule() -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    call = make(Shape(2, 1, 2, 0, 6, 8, 0), "bool")
    start = torch.tensor([0, 2])
    mask = create_block_mask(lambda b, h, q, k: (k <= q) & (k >= start[b]), 2, None, 6, 6, device="cpu", BLOCK_SIZE=16)
    flex = AttentionCall(call.module, call.query, call.key, call.value, mask, "flex_attention", call.original)
    found = flex.visible(torch.tensor([1, 5]))
    assert found.shape == (2, 1, 2, 6)
    assert found[:, 0].sum(-1).tolist() == [[2, 6], [0, 4]]
    assert float(row_weights(flex, torch.tensor([1]))[1].sum()) == 0


def test_a_static_caches_empty_room_is_no_key() -> None:
    call = make(Shape(1, 1, 1, 3, 1, 8, 0), "bool")
    roomy = AttentionCall(
        call.module,
        call.query,
        nn.functional.pad(call.key, (0, 0, 0, 5)),
        nn.functional.pad(call.value, (0, 0, 0, 5)),
        nn.functional.pad(call.mask, (0, 5)),
        "sdpa",
        call.original,
        {},
        call.offset,
    )
    assert roomy.keys == 4
    assert roomy.first_key == 0
    assert torch.allclose(row_weights(roomy, torch.tensor([0])), plain(call), atol=1e-6)


def test_blocks_are_limited_inside_the_with_only() -> None:
    before = block_bytes()
    with limit_block_bytes(123):
        assert block_bytes() == 123
    assert block_bytes() == before
    with pytest.raises(InputError, match="0 bytes"), limit_block_bytes(0):
        pass
