"""Layers that run on some positions only, shown to readers and editors in the positions of the whole sequence.

A position that was dropped has no query and no key: it is shown as a row that sees nothing and a key that nothing sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention.call import _HIDDEN_BELOW, AttentionCall


@dataclass(frozen=True)
class _Rule:
    """A mask by a rule, as FlexAttention's are: `mask_mod(batch, head, query, key)`."""

    mask_mod: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TokenSubset:
    """Which positions of a prompt a layer runs on; generated positions follow, all of them.

    index: [batch, kept], ascending; is_real: alike, False where a sample has fewer than others; length: of the prompt.
    """

    index: Int[Tensor, "batch kept"]
    is_real: Bool[Tensor, "batch kept"]
    length: int

    def scatter_call(self, call: AttentionCall) -> AttentionCall:
        """The call as one over the whole sequence. Its kernel runs on the positions kept alone."""
        generated = int(call.key.shape[2]) - int(self.index.shape[1])
        keys = self._places(generated)
        rows = keys if call.queries == int(call.key.shape[2]) else None
        total = self.length + generated
        wide_rows = total if rows is not None else call.queries

        def original(
            module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
        ) -> tuple[Tensor, None]:
            kept = value.gather(2, _to(keys.clamp(max=total - 1), value, 2))
            output, _ = call.original(module, call.query, call.key, kept, call.mask, **call.options)
            return (output if rows is None else _spread(output, rows, total, 1)), None

        return replace(
            call,
            query=call.query if rows is None else _spread(call.query, rows, total, 2),
            key=_spread(call.key, keys, total, 2),
            value=_spread(call.value, keys, total, 2),
            mask=_Rule(self._rule(call, keys, total, total - wide_rows)),
            original=original,
            offset=total - wide_rows,
        )

    def gather_output(self, output: Float[Tensor, "batch queries heads value_dim"], queries: int) -> Tensor:
        """The rows of a widened call's output that the layer runs on."""
        if output.shape[1] == queries:
            return output
        keys = self._places(queries - int(self.index.shape[1])).clamp(max=output.shape[1] - 1)
        return output.gather(1, _to(keys, output, 1))

    def _places(self, generated: int) -> Tensor:
        """[batch, kept + generated]: where each goes in the whole sequence; what only fills a row up goes behind it."""
        total = self.length + generated
        more = torch.arange(self.length, total, device=self.index.device).expand(len(self.index), -1)
        return torch.cat([self.index.masked_fill(~self.is_real, total), more], 1)

    def _rule(self, call: AttentionCall, keys: Tensor, total: int, offset: int) -> Callable[..., Tensor]:
        """Whether a query sees a key, both by their positions in the whole sequence."""
        short = torch.full((len(keys), total + 1), -1, device=keys.device)
        short.scatter_(1, keys, torch.arange(keys.shape[1], device=keys.device).expand_as(keys).contiguous())
        mask, first = call.mask, int(keys.shape[1]) - call.queries

        def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            row, column = short[batch, query + offset], short[batch, key]
            seen = (row >= 0) & (column >= 0)
            if isinstance(mask, Tensor) and mask.dim() == 4:
                part = mask[
                    batch if mask.shape[0] > 1 else torch.zeros_like(batch), 0, (row - first).clamp(min=0), column
                ]
                return seen & (part if part.dtype == torch.bool else part > _HIDDEN_BELOW)
            seen = seen & (column <= row)
            if isinstance(mask, Tensor):
                seen = seen & mask[:, -keys.shape[1] :].bool()[batch, column]
            return seen

        return rule


def _to(places: Tensor, like: Tensor, axis: int) -> Tensor:
    shape = [1] * like.dim()
    shape[0], shape[axis] = places.shape
    size = list(like.shape)
    size[axis] = int(places.shape[1])
    return places.to(like.device).reshape(shape).expand(size)


def _spread(values: Tensor, places: Tensor, total: int, axis: int) -> Tensor:
    shape = list(values.shape)
    shape[axis] = total + 1
    return values.new_zeros(shape).scatter(axis, _to(places, values, axis), values).narrow(axis, 0, total)
