"""Changing the attention of some query rows: what an editor asks for, and the rows' new output.

An edited row is computed here in float32 from its scores: editors change scores before the softmax or weights after it,
one after the other in the order they were entered; then the row's output is its weights times the values. All other
rows keep the output of the model's own kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.attention.group_mass import group_mass
from sightline.attention.weights import Block, normalise, open_scores, row_weights, score_blocks


@dataclass(frozen=True)
class Edit:
    """A wish to change query rows of one attention call.

    rows: indices into the call's query rows. scores, weights: take a `Block` whose rows are all among `rows` and
    return its new values in the same shape, [batch, heads of the block, rows of the block, keys]; None leaves that
    stage alone. by_kernel: the output of the whole call under this edit alone, where the model's kernel can compute it,
    else None.
    """

    rows: Int[Tensor, " rows"]
    scores: Callable[[Block], Tensor] | None = None
    weights: Callable[[Block], Tensor] | None = None
    by_kernel: Callable[[], Tensor | None] | None = None


def leaving_hidden(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change` of scores among which an edit before it hid keys: it is shown 0 there, and they stay hidden."""
    hidden = values.isneginf()
    return change(values.masked_fill(hidden, 0.0)).masked_fill(hidden, -torch.inf)


@dataclass(frozen=True)
class EditedCall:
    """An attention call together with the edits that the model then uses; what readers are shown."""

    call: AttentionCall
    edits: tuple[Edit, ...] = ()

    @property
    def rows(self) -> Int[Tensor, " rows"]:
        """All rows that some edit changes, ascending."""
        device = self.call.query.device
        if not self.edits:
            return torch.zeros(0, dtype=torch.long, device=device)
        if self.call.queries == 1:
            return max((edit.rows for edit in self.edits), key=len).to(device)
        rows: Tensor = torch.unique(torch.cat([edit.rows.to(device) for edit in self.edits]))
        return rows

    @property
    def _score_changes(self) -> list[tuple[Tensor, Callable[[Block], Tensor]]]:
        """Rows and change of each edit of scores; behind the first, keys may be hidden."""
        found: list[tuple[Tensor, Callable[[Block], Tensor]]] = []
        for edit in self.edits:
            if edit.scores is not None:
                found.append((edit.rows, _behind_another(edit.scores) if found else edit.scores))
        return found

    def _open_weights(self) -> Float[Tensor, "batch heads 1 keys"] | None:
        """Weights of a decoding row that sees every key, as the model uses them; None for other calls."""
        values = open_scores(self.call)
        if values is None:
            return None
        for rows, change in self._score_changes:
            if len(rows):
                values = change(Block(0, rows, 0, values))
        values = normalise(self.call, values)
        for edit in self.edits:
            if edit.weights is not None and len(edit.rows):
                values = edit.weights(Block(0, edit.rows, 0, values))
        return values

    def weight_blocks(self, rows: Int[Tensor, " rows"]) -> Iterator[tuple[AttentionCall, Block]]:
        """Weights as the model uses them, with the call cut to the block's heads."""
        for part, block in score_blocks(self.call, rows):
            has_one = self.call.queries == 1
            scores = _apply(block, self._score_changes, has_one)
            weights = Block(block.head, block.rows, block.first_row, normalise(part, scores))
            values = _apply(weights, [(edit.rows, edit.weights) for edit in self.edits], has_one)
            yield part, Block(block.head, block.rows, block.first_row, values)

    def row_weights(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "batch heads rows keys"]:
        """All weights of a handful of rows, as the model uses them."""
        rows = rows.to(self.call.query.device)
        if not self.edits:
            return row_weights(self.call, rows)
        whole = self.call.query.new_empty(
            (self.call.query.shape[0], self.call.heads, len(rows), self.call.keys)
        ).float()
        for _, block in self.weight_blocks(rows):
            heads = slice(block.head, block.head + block.values.shape[1])
            whole[:, heads, block.first_row : block.first_row + len(block.rows)] = block.values
        return whole

    def row_mass(
        self, rows: Int[Tensor, " rows"], membership: Float[Tensor, "batch keys groups"]
    ) -> Float[Tensor, "batch heads rows groups"]:
        """Mass that the rows give to each group of keys, as the model uses them."""
        rows = rows.to(self.call.query.device)
        shape = (self.call.query.shape[0], self.call.heads, len(rows), int(membership.shape[-1]))
        mass = torch.zeros(shape, dtype=torch.float32, device=rows.device)
        member = membership.to(rows.device, torch.float32)[:, None]
        for _, block in self.weight_blocks(rows):
            heads = slice(block.head, block.head + block.values.shape[1])
            mass[:, heads, block.first_row : block.first_row + len(block.rows)] = torch.matmul(block.values, member)
        return mass

    def group_mass(self, membership: Float[Tensor, "batch keys groups"]) -> Float[Tensor, "batch heads queries groups"]:
        """Mass that every row gives to each group of keys: the kernel's for untouched rows, ours for edited ones."""
        mass = group_mass(self.call, membership)
        rows = self.rows
        if len(rows):
            mass[:, :, rows] = self.row_mass(rows, membership)
        return mass

    def output(self) -> Float[Tensor, "batch queries heads value_dim"]:
        """What the attention function returns: the model's own kernel, and the edited rows over it."""
        if len(self.edits) == 1 and self.edits[0].by_kernel is not None:
            whole = self.edits[0].by_kernel()
            if whole is not None:
                return whole
        rows = self.rows
        if not len(rows):
            return self.call.run()
        if self.call.queries == 1:
            weights = self._open_weights()
            if weights is not None:
                return _values(self.call, weights).transpose(1, 2).to(self.call.value.dtype)
            parts = [_values(part, block.values) for part, block in self.weight_blocks(rows)]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            return whole.transpose(1, 2).to(self.call.value.dtype)
        if len(rows) == self.call.queries:
            batch, _, _, width = self.call.value.shape
            output = self.call.value.new_empty((batch, self.call.queries, self.call.heads, width))
        else:
            # The kernel's backward pass needs its own output untouched.
            output = self.call.run()
            output = output.clone() if output.requires_grad else output
        for part, block in self.weight_blocks(rows):
            heads = slice(block.head, block.head + block.values.shape[1])
            output[:, block.rows, heads] = _values(part, block.values).transpose(1, 2).to(output.dtype)
        return output


def _behind_another(change: Callable[[Block], Tensor]) -> Callable[[Block], Tensor]:
    def changed(block: Block) -> Tensor:
        return leaving_hidden(block.values, lambda shown: change(Block(block.head, block.rows, block.first_row, shown)))

    return changed


def _values(call: AttentionCall, weights: Tensor) -> Tensor:
    batch, heads, rows, keys = weights.shape
    kv_heads = int(call.value.shape[1])
    value = (call.value if int(call.value.shape[2]) == keys else call.value[:, :, :keys]).float()
    if kv_heads == heads:
        return torch.matmul(weights, value)
    packed = weights.reshape(batch, kv_heads, heads // kv_heads * rows, keys)
    return torch.matmul(packed, value).reshape(batch, heads, rows, -1)


def _apply(block: Block, changes: Sequence[tuple[Tensor, Callable[[Block], Tensor] | None]], has_one: bool) -> Tensor:
    """The block after the changes of one stage. has_one: of the call's one row, which needs no looking up."""
    values = block.values
    for rows, change in changes:
        if change is None:
            continue
        if has_one:
            values = change(Block(block.head, block.rows, block.first_row, values)) if len(rows) else values
            continue
        mine = torch.isin(block.rows, rows.to(block.rows.device)).nonzero()[:, 0]
        if len(mine) == len(block.rows):
            values = change(Block(block.head, block.rows, block.first_row, values))
        elif len(mine):
            # first_row is of the whole block; an edit tells rows apart by `rows`, not by it.
            part = change(Block(block.head, block.rows[mine], block.first_row, values[:, :, mine]))
            values = values.index_copy(2, mine, part)
    return values
