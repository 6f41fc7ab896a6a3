"""Attention of the tower over many windows or pictures of one length at once, for training: the same values, faster.

Transformers takes one window after the other; thirty pictures have hundreds.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def quicken(visual: Any) -> None:
    """Lets every attention of this tower take windows of one length as a batch; of several, it goes on as before."""
    for block in visual.blocks:
        block.attn.forward = types.MethodType(_forward, block.attn)


def _forward(self: Any, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: Any, **options: Any) -> Tensor:
    lengths = cu_seqlens.diff()
    if (lengths != lengths[0]).any():
        return type(self).forward(
            self, hidden_states, cu_seqlens=cu_seqlens, position_embeddings=position_embeddings, **options
        )
    windows, length = len(lengths), int(lengths[0])
    query, key, value = self.qkv(hidden_states).reshape(len(hidden_states), 3, self.num_heads, -1).unbind(1)
    turn = inspect.unwrap(type(self).forward).__globals__["apply_rotary_pos_emb_vision"]
    query, key = turn(query, key, *position_embeddings)

    def batched(part: Tensor) -> Tensor:
        return part.reshape(windows, length, self.num_heads, -1).transpose(1, 2)

    found = F.scaled_dot_product_attention(batched(query), batched(key), batched(value), scale=self.scaling)
    return self.proj(found.transpose(1, 2).reshape(len(hidden_states), -1))
