"""Causal impact by whole passes: for sources hidden from every row, and rows that other rows of the prompt read.

Every variant carries all positions of the prompt through all layers from its first cut on, a batch of variants at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.knockout import Groups
from sightline.attention.weights import Block
from sightline.errors import ModelError
from sightline.knockout.answer import RowAnswer
from sightline.knockout.causal import RowCut, cuts_of, empty_maps
from sightline.knockout.layer_pass import whole_shared
from sightline.knockout.rerun import Rerun, for_batch
from sightline.memory import block_bytes, with_less_memory


def causal_whole(
    rerun: Rerun,
    groups: Sequence[Sequence[int]],
    layers: Sequence[int],
    window: int,
    answer: RowAnswer,
    only_row: bool,
) -> dict[str, Tensor]:
    """Maps [layers, groups], float32. only_row: hide from the captured row; else from every row that is no source."""
    attention_layers = [layer.index for layer in rerun.capture.layers if layer.row is not None]
    cuts = cuts_of(layers, window, attention_layers)
    maps = empty_maps(cuts, len(layers), len(groups))
    hidden = rerun.layer(0).hidden
    states = rerun.capture.positions * hidden.numel() * hidden.element_size()
    sizes = [max(1, block_bytes() // (16 * states))]

    def shrink() -> bool:
        sizes.append(max(1, sizes[-1] // 2))
        return sizes[-2] > 1

    for cut in cuts:
        start = 0
        while start < len(groups):

            def attempt(cut: RowCut = cut, start: int = start) -> int:
                chosen = groups[start : start + sizes[-1]]
                _fill(maps, rerun, chosen, start, cut, answer, only_row)
                return start + len(chosen)

            start = with_less_memory(attempt, shrink)
    return {name: values.float() for name, values in maps.items()}


def _fill(
    maps: dict[str, Tensor],
    rerun: Rerun,
    groups: Sequence[Sequence[int]],
    first: int,
    cut: RowCut,
    answer: RowAnswer,
    only_row: bool,
) -> None:
    at, count = rerun.capture.at, len(groups)
    every = Groups.of(groups, rerun.layer(0).hidden.device)
    hidden = every.hidden(torch.arange(count, device=every.flat.device))
    is_source = torch.zeros((count, rerun.capture.positions), dtype=torch.bool, device=every.flat.device)
    is_source[hidden.owner, hidden.positions] = True
    blind = torch.zeros(count, dtype=torch.bool, device=is_source.device)

    def hide(block: Block) -> Tensor:
        keys = is_source[:, None, None, : block.values.shape[-1]]
        if not only_row:
            keys = keys & ~is_source[:, None, block.rows, None]
        return block.values.masked_fill(keys, float("-inf"))

    def attend(index: int, call: AttentionCall) -> Tensor:
        if index not in cut.layers:
            return for_batch(call).run()
        rows = torch.tensor([at]) if only_row else torch.arange(call.queries)
        edit = Edit(rows.to(call.query.device), scores=hide)
        return EditedCall(for_batch(call), (edit,)).output()

    states: Tensor | None = None
    with rerun.override.by(attend):
        for index in range(cut.layers[0], len(rerun.capture.layers)):
            layer, whole = rerun.layer(index), rerun.layer(index).whole
            if whole is None:
                raise ModelError(f"The whole pass of layer {index} was not kept.")
            if states is None:
                states = whole.hidden.expand(*whole.hidden.shape[:-3], count, -1, -1)
            states = layer.module(states, **{**whole.inputs, **whole_shared(layer, count)})
            states = states[0] if isinstance(states, tuple) else states
            states = states if whole.added is None else states + whole.added
            if only_row and layer.row is not None and index in cut.layers:
                blind |= layer.row.is_blind(hidden)
    if states is None:
        return
    effects = answer.effects(rerun.logits(states.narrow(-2, at, 1)))
    for name, values in effects.items():
        maps[name][cut.place, first : first + count] = values.masked_fill(blind, torch.nan).cpu()
