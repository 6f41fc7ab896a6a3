"""What a layer was given and answered in the pass of a prompt, and parts of it for some rows."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall
from sightline.attention.knockout import RowAttention

Shared = dict[Any, tuple[Tensor, ...]]
"""Keys and values that later layers take from earlier ones, by the name under which the model shares them."""


@dataclass
class LayerPass:
    """One layer in one forward pass of one prompt.

    inputs: the forward's other arguments, cut to the row
    hidden, output: the row's state entering and leaving the layer, [..., 1, 1, hidden size]
    added: what is added between this layer and the next at the row, or None
    row: the row's attention, None in a layer without softmax attention
    before: a cache with the state before the row, of a layer without softmax attention
    whole: the same for all positions, where it is kept
    in_tuple: whether the layer answers a tuple
    """

    index: int
    module: nn.Module
    inputs: dict[str, Any]
    caches: tuple[str, ...]
    hidden: Tensor
    sharing: str | None = None
    output: Tensor | None = None
    added: Tensor | None = None
    row: RowAttention | None = None
    before: Any = None
    whole: WholePass | None = None
    shared_whole: MutableMapping[Any, Any] | None = None
    positions_after: int = 0
    in_tuple: bool = False

    @property
    def shared(self) -> Shared:
        """The row's own entries of what layers share."""
        if self.shared_whole is None:
            return {}
        end = -self.positions_after or None
        return {
            name: tuple(part[:, :, -1 - self.positions_after : end] for part in parts)
            for name, parts in self.shared_whole.items()
        }

    def run(self, hidden: Tensor, **changed: Any) -> Tensor:
        """The layer's output for other states, [..., rows, positions, hidden size]."""
        output = self.module(hidden, **{**self.inputs, **changed})
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


@dataclass
class WholePass:
    """A layer's states and arguments at all positions."""

    hidden: Tensor
    inputs: dict[str, Any]
    call: AttentionCall | None = None
    output: Tensor | None = None
    added: Tensor | None = None


def narrow(value: Tensor, positions: int, start: int, length: int = 1) -> Tensor:
    """Part of a tensor with an axis of positions: next to last in what has a width, else the last."""
    if value.dim() >= 3 and value.shape[-2] == positions:
        return value.narrow(-2, start, length).clone()
    has_width = value.dim() >= 3 and (value.is_floating_point() or value.is_complex())
    if value.dim() >= 1 and value.shape[-1] == positions and not has_width:
        return value.narrow(-1, start, length).clone()
    if value.dim() == 2 and value.shape[0] == positions:
        return value.narrow(0, start, length).clone()
    return value


def narrowed(value: Any, positions: int, length: int) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(narrowed(part, positions, length) for part in value)
    if isinstance(value, Tensor) and positions > 1:
        return narrow(value, positions, 0, length)
    return value


def shared_of(layer: LayerPass, shared: Shared, part: slice) -> Any:
    """What layers share for some rows, in the model's own kind of mapping."""
    if layer.sharing is None or layer.shared_whole is None:
        return {}
    given = type(layer.shared_whole)()
    rows = part.stop - part.start
    for name, own in layer.shared.items():
        mine = [parts[part] for parts in shared.get(name, ())]
        missing = rows - (len(mine[0]) if mine else 0)
        rest = [parts.expand(missing, -1, -1, -1) for parts in own]
        given[name] = tuple(torch.cat([a, b]) for a, b in zip(mine, rest, strict=True)) if mine else tuple(rest)
    return given


def whole_shared(layer: LayerPass, rows: int) -> dict[str, Any]:
    """Keys and values of all positions that layers share, as the argument by which a batch of variants gets them."""
    if layer.sharing is None or layer.shared_whole is None:
        return {}
    given = type(layer.shared_whole)()
    for name, parts in layer.shared_whole.items():
        given[name] = tuple(part.expand(rows, -1, -1, -1) for part in parts)
    return {layer.sharing: given}


def repeated_state(layer: LayerPass, rows: int) -> Any:
    """A cache with the state before the row of a layer without softmax attention, once for each row."""
    if layer.before is None:
        return None
    cache = copy.copy(layer.before)
    cache.layers = list(cache.layers)
    state = cache.layers[layer.index] = copy.deepcopy(cache.layers[layer.index])
    state.reorder_cache(torch.zeros(rows, dtype=torch.long, device=layer.hidden.device))
    return cache


def state_bytes(layer: LayerPass) -> int:
    """Bytes of one row's state in a layer without softmax attention."""
    if layer.before is None:
        return 0

    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        if isinstance(value, dict):
            return sum(map(size, value.values()))
        return sum(map(size, value)) if isinstance(value, list | tuple) else 0

    return size(vars(layer.before.layers[layer.index]))
