"""Local impact: a layer's output at one row with keys hidden from that layer's attention alone.

    l2     = | y^(-J) - y |                    y: the layer's output at the row, after residuals, norms and MLP
    cosine = 1 - cos(y^(-J), y)
    l2_heads = | o_h^(-J) - o_h |              o_h: one head's output before the output projection

Only the row changes, so N sources are N rows of the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.attention.knockout import Groups, RowAttention
from sightline.knockout.rerun import Rerun


def local_row(
    rerun: Rerun, groups: Sequence[Sequence[int]], layers: Sequence[int], per_head: bool
) -> dict[str, Tensor]:
    """Maps of the captured row: "l2", "cosine" [layers, groups], "l2_heads" [layers, heads, groups]; NaN is missing."""
    heads = max((layer.row.heads for layer in rerun.capture.layers if layer.row is not None), default=0)
    shape = (len(layers), len(groups))
    maps = {"l2": torch.full(shape, torch.nan), "cosine": torch.full(shape, torch.nan)}
    if per_head:
        maps["l2_heads"] = torch.full((len(layers), heads, len(groups)), torch.nan)
    for place, index in enumerate(layers):
        row = rerun.layer(index).row
        if row is None:
            continue
        every = Groups.of(groups, row.key.device)
        size = max(1, rerun.rows_at_once(index) - 1)
        for start in range(0, len(groups), size):
            part = slice(start, min(len(groups), start + size))
            hidden = every.hidden(torch.arange(part.start, part.stop, device=row.key.device))
            change, blind = row.changes(hidden), row.is_blind(hidden)
            l2, cosine = _distances(rerun, index, row, change)
            maps["l2"][place, part] = l2.masked_fill(blind, torch.nan).float().cpu()
            maps["cosine"][place, part] = cosine.masked_fill(blind, torch.nan).float().cpu()
            if per_head:
                norms = change.norm(dim=-1).masked_fill(blind[:, None], torch.nan)
                maps["l2_heads"][place, : row.heads, part] = norms.T.float().cpu()
    return maps


def _distances(rerun: Rerun, index: int, row: RowAttention, change: Tensor) -> tuple[Tensor, Tensor]:
    """How far the layer's output moves for changes [variants, heads, width] of its attention's output."""
    # The untouched row goes along, so that both sides of a difference are rounded alike.
    outputs = row.output() + torch.cat([torch.zeros_like(change[:1]), change])

    def attend(query: Tensor, key: Tensor, value: Tensor, part: slice) -> Tensor:
        return outputs[part]

    hidden = rerun.layer(index).hidden
    output = rerun.run(index, hidden.expand(*hidden.shape[:-3], len(outputs), -1, -1), attend, is_one=True)
    states = output.movedim(-3, 0).flatten(1).double()
    plain, hid = states[:1], states[1:]
    # Half the squared distance of unit vectors keeps the digits that one minus a cosine near 1 would lose.
    units = [part / part.norm(dim=1, keepdim=True).clamp(min=1e-300) for part in (plain, hid)]
    return (hid - plain).norm(dim=1), (units[1] - units[0]).square().sum(1) / 2
