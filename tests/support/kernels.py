"""FlashAttention 2 and FlexAttention in plain PyTorch, where Transformers calls theirs: what it hands them is its own.

Its masks, its unpadding and its packing run as on a GPU; only the kernels themselves are others.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import masking_utils, modeling_flash_attention_utils
from transformers.integrations import flex_attention


def on_flash_attention(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the model whose decoder runs FlashAttention 2."""
    utils: Any = modeling_flash_attention_utils
    for name, value in {
        "_loaded_implementation": "flash_attention_2",
        "_flash_fn": flash,
        "_flash_varlen_fn": flash_varlen,
        "_pad_fn": utils._pad_input,
        "_unpad_fn": utils._unpad_input,
        "_process_flash_kwargs_fn": utils._lazy_define_process_function(flash_varlen),
    }.items():
        monkeypatch.setattr(utils, name, value)
    return _on(model, "flash_attention_2")


def on_flex_attention(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the model whose decoder runs FlexAttention, block masks made without a compiler."""
    made = masking_utils.create_block_mask

    @functools.wraps(made)
    def uncompiled(*args: Any, _compile: bool = False, **options: Any) -> Any:
        return made(*args, **options)

    monkeypatch.setattr(masking_utils, "create_block_mask", uncompiled)
    monkeypatch.setattr(flex_attention, "compile_friendly_flex_attention", flex)
    return _on(model, "flex_attention")


def _on(model: nn.Module, implementation: str) -> Any:
    twin: Any = copy.deepcopy(model)
    twin.config.get_text_config()._attn_implementation = implementation
    return twin


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """[batch, rows, heads, width]: causal from the lower right, a window to the left, capped scores."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, _widened(k, q)) * (softmax_scale or q.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap if softcap else scores
    row = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
    column = torch.arange(k.shape[1])
    hidden = (column > row) & causal
    if window_size[0] >= 0:
        hidden = hidden | (column < row - window_size[0])
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, _widened(v, q))


def flash_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """[rows of all, heads, width]: each sequence, between the sums of their lengths, on its own."""
    outputs = []
    ends = zip(cu_seqlens_q.tolist()[1:], cu_seqlens_k.tolist()[1:], strict=True)
    first_row = first_key = 0
    for last_row, last_key in ends:
        rows, keys = slice(first_row, last_row), slice(first_key, last_key)
        one = (q[rows][None], k[keys][None], v[keys][None])
        outputs.append(flash(*one, dropout_p, softmax_scale, causal, window_size, softcap)[0])
        first_row, first_key = last_row, last_key
    return torch.cat(outputs)


def flex(
    query: Tensor, key: Tensor, value: Tensor, score_mod: Any, block_mask: Any, scale: float, **options: Any
) -> Tensor:
    """[batch, heads, rows, width]: the mask's rule and the scores' are asked for every pair."""
    key, value = (_widened(part, query, 1) for part in (key, value))
    batch, heads, rows, _ = query.shape
    grid = torch.meshgrid(*map(torch.arange, (batch, heads, rows, key.shape[2])), indexing="ij")
    scores = score_mod(query @ key.transpose(-1, -2) * scale, *grid)
    return scores.masked_fill(~block_mask.mask_mod(*grid), -torch.inf).softmax(-1).nan_to_num(0.0) @ value


def _widened(part: Tensor, query: Tensor, axis: int = 2) -> Tensor:
    """Keys or values once for every query head."""
    return part.repeat_interleave(query.shape[axis] // part.shape[axis], axis)
