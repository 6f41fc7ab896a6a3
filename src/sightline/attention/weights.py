"""Exact attention weights of a few query rows, computed beside the model's kernel in float32, block by block.

    w_ij = exp(s_ij) / (sum_k exp(s_ik) + exp(s_aux)),   s_ij = softcap(scaling * q_i . k_j) + bias_ij,   j visible to i

A block is a few key/value heads by a few rows, small enough for `block_bytes`; nothing larger is ever held. A row that
sees no key (padding) has weights 0, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.memory import block_bytes


@dataclass(frozen=True)
class Block:
    """Part of the scores or weights: `values` is [batch, query heads of the block, rows of the block, keys]."""

    head: int
    rows: Int[Tensor, " rows"]
    first_row: int
    values: Float[Tensor, "batch heads rows keys"]


def score_blocks(call: AttentionCall, rows: Int[Tensor, " rows"]) -> Iterator[tuple[AttentionCall, Block]]:
    """Scores before softmax, hidden keys at minus infinity, in blocks over key/value heads and rows.

    rows: indices into the call's query rows. Yields the call cut to the block's heads, and the block.
    """
    rows = rows.to(call.query.device)
    batch, kv_heads, width = call.query.shape[0], int(call.key.shape[1]), int(call.key.shape[-1])
    keys, group, budget = call.keys, call.group_size, block_bytes()
    key_cost = 0 if call.key.dtype == torch.float32 else batch * keys * width * 4
    # Softmax holds its input and output at once.
    row_cost = 2 * batch * group * keys * 4
    heads_at_once = max(1, min(kv_heads, budget // max(1, key_cost + row_cost * min(len(rows), 64))))
    rows_at_once = max(1, (budget // heads_at_once - key_cost) // max(1, row_cost))
    for head in range(0, kv_heads, heads_at_once):
        part = call if heads_at_once == kv_heads else call.slice_heads(head, min(kv_heads, head + heads_at_once))
        key = part.key[:, :, :keys].float().transpose(-1, -2)
        for start in range(0, len(rows), rows_at_once):
            chosen = rows[start : start + rows_at_once]
            yield part, Block(head * group, chosen, start, _scores(part, chosen, key))


def open_scores(call: AttentionCall) -> Float[Tensor, "batch heads 1 keys"] | None:
    """Scores of a call's one row where it sees every key and all of it fits in a block; None elsewhere.

    What a decoding step comes to: no block, no mask, no bias.
    """
    if not call.is_open or call.options.get("position_bias") is not None:
        return None
    batch, heads, _, width = call.query.shape
    kv_heads, keys = int(call.key.shape[1]), call.keys
    if 8 * batch * heads * keys + 4 * batch * kv_heads * keys * width > block_bytes():
        return None
    key = call.key if int(call.key.shape[2]) == keys else call.key[:, :, :keys]
    query = call.query.float() * call.scaling
    packed = query if kv_heads == heads else query.reshape(batch, kv_heads, heads // kv_heads, width)
    scores = torch.matmul(packed, key.float().transpose(-1, -2))
    scores = scores if kv_heads == heads else scores.reshape(batch, heads, 1, keys)
    cap = call.softcap
    return scores if cap is None else torch.tanh(scores / cap) * cap


def _scores(call: AttentionCall, rows: Tensor, key: Tensor) -> Tensor:
    batch, heads, _, width = call.query.shape
    kv_heads, group = heads // call.group_size, call.group_size
    query = (call.query if call.queries == 1 else call.query[:, :, rows]).float() * call.scaling
    packed = query.reshape(batch, kv_heads, group * len(rows), width)
    scores = torch.matmul(packed, key).reshape(batch, heads, len(rows), call.keys)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    bias = call.bias(rows)
    if bias is not None:
        scores = scores + bias
    if call.is_open:
        return scores
    hidden = ~call.visible(rows)
    # Adding a mask that all heads share takes an eighth of the time of filling by it.
    return scores.add_(torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf")))


def normalise(call: AttentionCall, scores: Float[Tensor, "batch heads rows keys"]) -> Tensor:
    """Softmax over the keys, with the learned sink `s_aux` of models that have one; rows that see nothing become 0."""
    sink = call.options.get("s_aux")
    if isinstance(sink, Tensor):
        column = sink.float().reshape(1, -1, 1, 1).expand(scores.shape[0], scores.shape[1], scores.shape[2], 1)
        weights = torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    if call.is_open:
        return weights
    # A backward pass needs the softmax as it was.
    fill = weights.nan_to_num if weights.requires_grad else weights.nan_to_num_
    return fill(nan=0.0)


def weight_blocks(call: AttentionCall, rows: Int[Tensor, " rows"]) -> Iterator[Block]:
    """Attention weights of the rows, block by block; each block's rows sum to 1 (below 1 with a learned sink)."""
    for part, block in score_blocks(call, rows):
        yield Block(block.head, block.rows, block.first_row, normalise(part, block.values))


def row_weights(call: AttentionCall, rows: Int[Tensor, " rows"]) -> Float[Tensor, "batch heads rows keys"]:
    """All weights of the rows at once. For a handful of rows; reduce `weight_blocks` where there are many."""
    whole = call.query.new_empty((call.query.shape[0], call.heads, len(rows), call.keys), dtype=torch.float32)
    for block in weight_blocks(call, rows):
        heads = slice(block.head, block.head + block.values.shape[1])
        whole[:, heads, block.first_row : block.first_row + len(block.rows)] = block.values
    return whole


def row_mass(
    call: AttentionCall, rows: Int[Tensor, " rows"], membership: Float[Tensor, "batch keys groups"]
) -> Float[Tensor, "batch heads rows groups"]:
    """Attention mass that the rows give to each group of keys: sum_j w_ij membership_jg."""
    batch, groups = call.query.shape[0], int(membership.shape[-1])
    mass = call.query.new_zeros((batch, call.heads, len(rows), groups), dtype=torch.float32)
    member = membership.to(call.query.device, torch.float32)[:, None]
    for block in weight_blocks(call, rows):
        heads = slice(block.head, block.head + block.values.shape[1])
        mass[:, heads, block.first_row : block.first_row + len(block.rows)] = torch.matmul(block.values, member)
    return mass
