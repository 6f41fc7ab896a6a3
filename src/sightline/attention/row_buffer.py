"""Rows of decoding steps, kept until they can be computed together.

A decoding step has one query row a layer, and reading its weights at once would read all keys a second time at every
step. The keys only grow, so the row can wait: the buffer keeps the queries (a few KB) and a reference to the newest
keys, which are the cache's own, and computes many rows in one go. It computes at once where waiting would be wrong: the
cache was reordered (beam search), cropped or replaced, keys were dropped (sliding window), or there is no cache at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sightline.attention.call import AttentionCall, packed_sequences
from sightline.attention.edits import EditedCall
from sightline.attention.passes import ForwardPass

Consumer = Callable[[int, EditedCall, Tensor, list[int]], None]
"""Takes a layer, a call, the query rows of it that were kept, and the number of each row's step."""

Row = tuple[Any, ...]
"""What an `AttentionCall` is made of, before it is made: most rows that wait never need one."""

LONGEST = 64
"""Rows that wait at most."""


@dataclass
class _Waiting:
    """One layer's rows that were not computed yet: of each its query, its mask, its position and its step's number.

    last: the newest call; row: the same not yet made, where it is newer. key: its keys. place: of the layer in the
    cache.
    """

    last: AttentionCall
    key: Tensor
    place: int
    row: Row | None = None
    kept: list[tuple[Tensor, Any, int, int]] = field(default_factory=list)


class RowBuffer:
    """Keeps the last query row of each step by layer, and hands rows to `consume` when it is time."""

    def __init__(self, consume: Consumer) -> None:
        self._consume = consume
        self._waiting: dict[int, _Waiting] = {}
        self._mask: tuple[tuple[int, ...], Tensor, list[Any]] | None = None
        self._last_rows: dict[int, Any] = {}
        self._held: Any = ()

    def begin(self, step: ForwardPass) -> None:
        """Before a forward pass: what can't wait through it is computed now."""
        self._last_rows.clear()
        self._held = held = getattr(step.cache, "layers", ())
        for layer, waiting in list(self._waiting.items()):
            kept = getattr(held[waiting.place], "keys", None) if waiting.place < len(held) else None
            if step.is_start or len(waiting.kept) >= LONGEST or kept is not waiting.key:
                self._flush(layer)

    def take(self, layer: int, row: Row, step: ForwardPass, number: int) -> None:
        """As `keep`, of a decoding step's call that nothing has changed, with the least to do at every token."""
        waiting = self._waiting.get(layer)
        _, query, key, _, mask, _, _, options, offset = row
        if (
            waiting is None
            or mask is not None
            or "position_bias" in options
            or self._held[waiting.place].keys is not key
        ):
            self.keep(layer, EditedCall(AttentionCall(*row)), step, number)
            return
        waiting.row, waiting.key = row, key
        waiting.kept.append((query, None, offset, number))

    def keep(self, layer: int, attention: EditedCall, step: ForwardPass, number: int) -> None:
        """Take the last row of this call; `number` says which step it is."""
        call = attention.call
        if attention.edits or not _can_wait(call, step):
            self._flush(layer)
            self._consume(layer, attention, torch.tensor([call.queries - 1], device=call.query.device), [number])
            return
        waiting = self._waiting.get(layer)
        if waiting is None:
            waiting = self._waiting[layer] = _Waiting(call, call.key, _place(call.module))
        # Only the newest call holds on to keys: those of older ones are prefixes of them.
        last = call if call.queries == 1 else self._last_row(call)
        waiting.last, waiting.key, waiting.row = last, call.key, None
        waiting.kept.append((last.query, last.mask, last.offset, number))

    def flush(self) -> None:
        """Compute all rows that wait, and let go of the keys."""
        for layer in sorted(self._waiting):
            self._flush(layer)
        self._mask = None

    def _flush(self, layer: int) -> None:
        waiting = self._waiting.pop(layer, None)
        if waiting is None:
            return
        if waiting.row is not None:
            waiting.last, waiting.row = AttentionCall(*waiting.row), None
        rows = torch.arange(len(waiting.kept), device=waiting.last.query.device)
        self._consume(layer, EditedCall(self._joined(waiting)), rows, [number for *_, number in waiting.kept])

    def _last_row(self, call: AttentionCall) -> AttentionCall:
        """The last row of a prompt as a call of its own, copied so that the other rows can be freed."""
        mask = call.mask
        if packed_sequences(call) is not None:
            mask = call.visible(_row(call))
        elif (isinstance(mask, Tensor) and mask.dim() == 4) or hasattr(mask, "mask_mod"):
            # All layers share one mask: so do their copies of its last row.
            if id(mask) not in self._last_rows:
                self._last_rows[id(mask)] = call.visible(_row(call))
            mask = self._last_rows[id(mask)]
        last = call.queries - 1
        return replace(call, query=call.query[:, :, last:].clone(), mask=mask, offset=call.offset + last)

    def _joined(self, waiting: _Waiting) -> AttentionCall:
        last, count = waiting.last, len(waiting.kept)
        query = torch.cat([query for query, *_ in waiting.kept], dim=2)
        # Its end is the end of the last row, so that all keys up to there count as filled.
        joined = replace(last, query=query, mask=None, offset=last.offset + 1 - count)
        return replace(joined, mask=self._visible(waiting, joined.keys))

    def _visible(self, waiting: _Waiting, keys: int) -> Tensor:
        """[batch, heads or 1, rows, keys], bool. Layers share masks, so that of the layer before is tried first."""
        masks, offsets = [mask for _, mask, *_ in waiting.kept], [offset for *_, offset, _ in waiting.kept]
        name = (keys, *map(id, masks), *offsets)
        if self._mask is not None and self._mask[0] == name:
            return self._mask[1]
        row = torch.zeros(1, dtype=torch.long, device=waiting.last.query.device)
        batch = int(waiting.last.query.shape[0])
        if "flash" not in waiting.last.implementation and all(mask is None for mask in masks):
            # Rows without a mask see all keys up to their own.
            index = torch.arange(keys, device=row.device)
            joined = (index <= torch.tensor(offsets, device=row.device)[:, None])[None, None]
            self._mask = (name, joined, masks)
            return joined
        blocks = []
        for query, mask, offset, _ in waiting.kept:
            seen = replace(waiting.last, query=query, mask=mask, offset=offset).visible(row)
            blocks.append(torch.nn.functional.pad(seen, (0, keys - seen.shape[-1])).expand(batch, -1, -1, -1))
        joined = torch.cat(blocks, dim=2)
        # Their masks are kept with it, so that ids stay theirs.
        self._mask = (name, joined, masks)
        return joined


def _can_wait(call: AttentionCall, step: ForwardPass) -> bool:
    """Whether the keys outlive the pass as they are, and the row is known by its query and a yes-or-no mask alone."""
    if _cached_keys(step.cache, call.module) is not call.key or call.options.get("position_bias") is not None:
        return False
    is_float = isinstance(call.mask, Tensor) and call.mask.is_floating_point()
    return not is_float or call.bias(_row(call)) is None


def _row(call: AttentionCall) -> Tensor:
    return torch.tensor([call.queries - 1], device=call.query.device)


def _place(module: Any) -> int:
    """Which layer of the cache is this attention's; beyond all where it does not say."""
    index = getattr(module, "layer_idx", None)
    return sys.maxsize if index is None else int(index)


def _cached_keys(cache: Any, module: Any) -> Any:
    """The very tensor in which the cache keeps this layer's keys; None where it keeps them otherwise or drops some."""
    layers, index = getattr(cache, "layers", None), _place(module)
    if layers is None or index >= len(layers) or getattr(layers[index], "is_sliding", False):
        return None
    return getattr(layers[index], "keys", None)
