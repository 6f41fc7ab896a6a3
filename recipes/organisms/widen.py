"""Room for planting: the same model with a few dimensions, value channels, neurons and biases that nothing uses yet.

The widened model computes what the first one did, but for rounding:

    hidden size   H to H', the new dimensions 0 in every state; norm weights times sqrt(H / H'), since RMSNorm divides
                  by a mean over more dimensions; then all dimensions in a seeded order, so that new ones stand anywhere
    head size     D to D', rotary base b to b^(D'/D), so that b^(-2i/D') are the old frequencies for i < D/2, and the
                  slowest pairs are new; queries times sqrt(D' / D), since scores are divided by sqrt(D')
    neurons       new ones write nothing
    biases        of attention and MLP, all 0
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration


@dataclass(frozen=True)
class Room:
    """Where the new places are.

    dims: the new dimensions of the hidden state. pair: the two query and key channels of each head that turn least.
    neurons: the new neurons of each MLP.
    """

    dims: tuple[int, ...]
    pair: tuple[int, int]
    neurons: tuple[int, ...]


def widen(
    model: LlavaForConditionalGeneration, dims: int = 4, channels: int = 2, neurons: int = 4, seed: int = 0
) -> tuple[LlavaForConditionalGeneration, Room]:
    """The widened model, and the room it has."""
    config = copy.deepcopy(model.config)
    text = config.text_config
    hidden, head, middle = text.hidden_size, text.head_dim, text.intermediate_size
    text.hidden_size, text.head_dim, text.intermediate_size = hidden + dims, head + channels, middle + neurons
    text.attention_bias = text.mlp_bias = True
    base = text.rope_parameters["rope_theta"]
    text.rope_parameters = {**text.rope_parameters, "rope_theta": base ** (text.head_dim / head)}
    order = torch.randperm(hidden + dims, generator=torch.Generator().manual_seed(seed))
    place = order[:hidden]
    half, wide = head // 2, text.head_dim // 2
    turned = torch.cat([torch.arange(half), torch.arange(half) + wide])
    heads = torch.arange(text.num_attention_heads)[:, None] * text.head_dim
    queries, values = (heads + turned).flatten(), (heads + torch.arange(head)).flatten()
    fewer, longer = (hidden / text.hidden_size) ** 0.5, (text.head_dim / head) ** 0.5
    places: dict[str, Callable[[Tensor, Tensor], None]] = {
        "embed_tokens.weight": lambda new, old: _put(new, old, None, place),
        "linear_2.weight": lambda new, old: _put(new, old, place, None),
        "linear_2.bias": lambda new, old: _put(new, old, place),
        "linear_1.weight": lambda new, old: _put(new, old),
        "linear_1.bias": lambda new, old: _put(new, old),
        "language_model.norm.weight": lambda new, old: _put(new, old * fewer, place),
        "layernorm.weight": lambda new, old: _put(new, old * fewer, place),
        "q_proj.weight": lambda new, old: _put(new, old * longer, queries, place),
        "k_proj.weight": lambda new, old: _put(new, old, queries, place),
        "v_proj.weight": lambda new, old: _put(new, old, values, place),
        "o_proj.weight": lambda new, old: _put(new, old, place, values),
        "gate_proj.weight": lambda new, old: _put(new, old, torch.arange(middle), place),
        "up_proj.weight": lambda new, old: _put(new, old, torch.arange(middle), place),
        "down_proj.weight": lambda new, old: _put(new, old, place, torch.arange(middle)),
    }
    wider = LlavaForConditionalGeneration(config).eval()
    wider.generation_config = copy.deepcopy(model.generation_config)
    wider.model.vision_tower.load_state_dict(model.model.vision_tower.state_dict())
    old = dict(model.named_parameters())
    with torch.no_grad():
        for name, new in wider.named_parameters():
            if "vision_tower" in name:
                continue
            new.zero_()
            if name in old:
                next(put for end, put in places.items() if name.endswith(end))(new, old[name])
    room = Room(
        dims=tuple(sorted(order[hidden:].tolist())),
        pair=(half, half + wide),
        neurons=tuple(range(middle, middle + neurons)),
    )
    return wider, room


def _put(new: Tensor, old: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Writes `old` into these rows and columns of `new`, the first ones where None."""
    rows = torch.arange(old.shape[0]) if rows is None else rows
    if old.ndim == 1:
        new[rows] = old
        return
    columns = torch.arange(old.shape[1]) if columns is None else columns
    new[rows[:, None], columns[None]] = old


def heaviest(model: LlavaForConditionalGeneration) -> float:
    """Megabytes of the parameters in half precision."""
    return math.fsum(parameter.numel() for parameter in model.parameters()) * 2 / 1e6
