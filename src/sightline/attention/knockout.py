"""Exact attention of one query row with keys hidden from it, and of rows that stand in its place.

Hiding the keys of a group J from a row changes its output by

    o^(-J) - o = (m o - c) / (1 - m),    m = sum_{j in J} a_j,    c = sum_{j in J} a_j v_j

and needs no second softmax. Where little weight is left, 1 - m loses its digits and the row is computed again without
the keys. All in float32 or better, block by block; a learned sink counts as weight that is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.memory import block_bytes

_LEAST_LEFT = 0.25
"""Share of a row's weight that must be left for the shortcut; rounding errors grow at most by its inverse."""


@dataclass(frozen=True)
class Hidden:
    """Positions hidden from each of `count` variants of a row, as pairs.

    positions: absolute; owner: which variant each is hidden from, ascending.
    """

    positions: Int[Tensor, " pairs"]
    owner: Int[Tensor, " pairs"]
    count: int


@dataclass(frozen=True)
class Groups:
    """Groups of positions, flattened: group g is `flat[starts[g] : starts[g] + lengths[g]]`."""

    flat: Int[Tensor, " members"]
    starts: Int[Tensor, " groups"]
    lengths: Int[Tensor, " groups"]

    @classmethod
    def of(cls, groups: Sequence[Sequence[int]], device: torch.device) -> Groups:
        """Repeated positions of a group count once."""
        kept = [sorted(set(group)) for group in groups]
        lengths = torch.tensor([len(group) for group in kept], dtype=torch.long)
        flat = torch.tensor([position for group in kept for position in group], dtype=torch.long)
        return cls(flat.to(device), (lengths.cumsum(0) - lengths).to(device), lengths.to(device))

    def __len__(self) -> int:
        return len(self.lengths)

    def hidden(self, variants: Int[Tensor, " variants"]) -> Hidden:
        """From each variant, given by its group, what to hide."""
        lengths = self.lengths[variants]
        owner = torch.arange(len(variants), device=self.flat.device).repeat_interleave(lengths)
        first = self.starts[variants] - (lengths.cumsum(0) - lengths)
        positions = self.flat[torch.arange(len(owner), device=owner.device) + first.repeat_interleave(lengths)]
        return Hidden(positions, owner, len(variants))


@dataclass(frozen=True)
class RowAttention:
    """One query row of an attention call and the keys it may see.

    query: [heads, head_dim]; key, value: [key_value_heads, keys, head_dim], cut to the row's reach (views of the
    model's own). addend: [1 or heads, keys], biases, and minus infinity where a key is hidden. first: absolute position
    of key 0; own: which key is the row's own. sink: [heads], learned, or None.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    addend: Tensor
    first: int
    own: int
    scaling: float
    softcap: float | None
    sink: Tensor | None

    @classmethod
    def of(cls, call: AttentionCall, row: int) -> RowAttention:
        """Row `row` of a call of one prompt."""
        rows = torch.tensor([row], device=call.query.device)
        seen, bias = call.visible(rows)[0, :, 0], call.bias(rows)
        kind = torch.promote_types(call.query.dtype, torch.float32)
        addend = seen.new_zeros(seen.shape, dtype=kind) if bias is None else bias[0, :, 0].to(kind)
        addend = addend.expand(max(len(addend), len(seen)), -1).masked_fill(~seen, float("-inf"))
        reach = seen.any(0).nonzero()[:, 0]
        own = call.offset + row - call.first_key
        low = min(own, int(reach[0])) if len(reach) else own
        high = max(own, int(reach[-1])) if len(reach) else own
        sink = call.options.get("s_aux")
        return cls(
            query=call.query[0, :, row].clone(),
            key=call.key[0, :, low : high + 1],
            value=call.value[0, :, low : high + 1],
            addend=addend[:, low : high + 1].clone(),
            first=call.first_key + low,
            own=own - low,
            scaling=call.scaling,
            softcap=call.softcap,
            sink=sink.detach() if isinstance(sink, Tensor) else None,
        )

    @property
    def heads(self) -> int:
        """Query heads."""
        return int(self.query.shape[0])

    @property
    def keys(self) -> int:
        """Keys within the row's reach."""
        return int(self.key.shape[1])

    def reaches(self, hidden: Hidden) -> Bool[Tensor, " variants"]:
        """Whether anything that is hidden from a variant was to be seen at all."""
        place, owner = self._places(hidden)
        seen = (self.addend > float("-inf")).any(0)
        return self._count(seen[place], owner, hidden.count) > 0

    def is_blind(self, hidden: Hidden) -> Bool[Tensor, " variants"]:
        """Whether a variant sees nothing in some head: then its output is not defined."""
        if self.sink is not None:
            return torch.zeros(hidden.count, dtype=torch.bool, device=self.key.device)
        place, owner = self._places(hidden)
        seen = self.addend > float("-inf")
        lost = torch.stack([self._count(head[place], owner, hidden.count) for head in seen])
        return (lost >= seen.sum(1)[:, None]).any(0)

    def output(self) -> Float[Tensor, "heads width"]:
        """The row's own, untouched."""
        return self._attend(self._scores(self.query[None]), self._wide(self.value))[0]

    def changes(self, hidden: Hidden) -> Float[Tensor, "variants heads width"]:
        """How each variant's output differs from the untouched; 0 where it is not defined."""
        value = self._wide(self.value)
        scores = self._scores(self.query[None])
        weights = self._weights(scores).reshape(self.heads, self.keys)
        output = self._attend(scores, value)[0]
        place, owner = self._places(hidden)
        shape, kind = (hidden.count, self.heads), weights.dtype
        mass = weights.new_zeros(shape).index_add_(0, owner, weights[:, place].T)
        taken = weights.new_zeros((*shape, value.shape[-1]))
        pair_bytes = self.heads * value.shape[-1] * weights.element_size() * 3
        for part in _parts(len(place), pair_bytes):
            where = place[part]
            group = self.heads // len(value)
            members = value[:, None, where].expand(-1, group, -1, -1).reshape(self.heads, len(where), -1)
            taken.index_add_(0, owner[part], (weights[:, where, None] * members).transpose(0, 1))
        left = 1 - mass
        change = (mass[..., None] * output - taken) / left.clamp(min=_LEAST_LEFT)[..., None]
        unsafe = (left < _LEAST_LEFT).any(1).nonzero()[:, 0]
        row_bytes = self.heads * self.keys * weights.element_size() * 3
        for part in _parts(len(unsafe), row_bytes):
            chosen = unsafe[part]
            again = self._attend(self._without(scores, hidden, chosen), value) - output
            change[chosen] = torch.where((left[chosen] < _LEAST_LEFT)[..., None], again, change[chosen])
        return change.to(kind)

    def replaced(
        self,
        query: Float[Tensor, "variants heads head_dim"],
        key: Float[Tensor, "variants kv_heads head_dim"],
        value: Float[Tensor, "variants kv_heads width"],
        hidden: Hidden | None = None,
    ) -> Float[Tensor, "variants heads width"]:
        """Output of rows that stand in this one's place, each with its own last key and value beside the shared ones.

        A variant that sees nothing answers 0.
        """
        keys, values = self._wide(self.key), self._wide(self.value)
        row_bytes = self.heads * self.keys * values.element_size() * 3
        parts = []
        for part in _parts(len(query), row_bytes):
            own = self._wide(key[part])
            scores = self._scores(self._wide(query[part]), keys, own)
            if hidden is not None:
                place, owner = self._places(_cut(hidden, part))
                scores[:, owner, :, place] = float("-inf")
            parts.append(self._attend(scores, values, self._wide(value[part])))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _wide(self, values: Tensor) -> Tensor:
        return values.to(self.addend.dtype)

    def _places(self, hidden: Hidden) -> tuple[Tensor, Tensor]:
        """Keys within reach that are hidden, and from which variant."""
        place = hidden.positions - self.first
        inside = (place >= 0) & (place < self.keys)
        return place[inside], hidden.owner[inside]

    @staticmethod
    def _count(marks: Tensor, owner: Tensor, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.long, device=marks.device).index_add_(0, owner, marks.long())

    def _scores(self, query: Tensor, key: Tensor | None = None, own: Tensor | None = None) -> Tensor:
        """[key_value_heads, variants, group, keys] of queries [variants, heads, head_dim]; hidden keys minus infinity.

        own: [variants, key_value_heads, head_dim], the last keys of the variants, in the place of the row's.
        """
        key = self._wide(self.key) if key is None else key
        count, kv_heads = len(query), len(key)
        group = self.heads // kv_heads
        query = self._wide(query) * self.scaling
        grouped = query.reshape(count, kv_heads, group, -1).permute(1, 0, 2, 3)
        scores = torch.matmul(grouped.reshape(kv_heads, count * group, -1), key.transpose(1, 2))
        scores = scores.reshape(kv_heads, count, group, self.keys)
        if own is not None:
            scores[..., self.own] = (grouped * own.permute(1, 0, 2)[:, :, None]).sum(-1)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        return scores + self._by_head(self.addend)

    def _by_head(self, values: Tensor) -> Tensor:
        """[1 or heads, ...] to [1 or key_value_heads, 1, 1 or group, ...]."""
        if len(values) == 1:
            return values[:, None, None]
        return values.reshape(len(self.key), 1, -1, *values.shape[1:])

    def _weights(self, scores: Tensor) -> Tensor:
        if self.sink is None:
            return torch.softmax(scores, -1)
        column = self._by_head(self._wide(self.sink.reshape(-1, 1))).expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]

    def _without(self, scores: Tensor, hidden: Hidden, chosen: Tensor) -> Tensor:
        """The row's scores once for each chosen variant, with its keys hidden."""
        scores = scores.expand(-1, len(chosen), -1, -1).clone()
        place, owner = self._places(hidden)
        order = torch.full((hidden.count,), -1, device=chosen.device)
        order[chosen] = torch.arange(len(chosen), device=chosen.device)
        mine = order[owner] >= 0
        scores[:, order[owner][mine], :, place[mine]] = float("-inf")
        return scores

    def _attend(self, scores: Tensor, value: Tensor, own: Tensor | None = None) -> Tensor:
        """[variants, heads, width] from scores; own: [variants, key_value_heads, width] in the place of the row's."""
        weights = self._weights(scores)
        kv_heads, count, group, _ = weights.shape
        output = torch.matmul(weights.reshape(kv_heads, count * group, -1), value).reshape(kv_heads, count, group, -1)
        if own is not None:
            instead = own.permute(1, 0, 2)[:, :, None] - value[:, None, None, self.own]
            output = output + weights[..., self.own, None] * instead
        return torch.nan_to_num(output.permute(1, 0, 2, 3).reshape(count, self.heads, -1), nan=0.0)


def _parts(count: int, item_bytes: int) -> Iterator[slice]:
    """Slices of `count` items, each of at most `block_bytes`."""
    size = max(1, block_bytes() // max(1, item_bytes))
    return (slice(start, min(count, start + size)) for start in range(0, count, size))


def _cut(hidden: Hidden, part: slice) -> Hidden:
    mine = (hidden.owner >= part.start) & (hidden.owner < part.stop)
    return Hidden(hidden.positions[mine], hidden.owner[mine] - part.start, part.stop - part.start)
