"""Causal impact: the edge from a source to one row is cut in some layers, and the effect is read at the model's end.

A cut changes the row alone. Every other position is as it was, so all variants travel up together as rows beside one
shared set of keys and values, each with its own last key and value; those cut at a layer join there. L layers by N
sources are then L (L + 1) / 2 times N rows of a layer: about half as many forward passes of N positions as layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.attention.knockout import Groups
from sightline.errors import ModelError
from sightline.knockout.answer import EFFECTS, RowAnswer
from sightline.knockout.layer_pass import Shared
from sightline.knockout.rerun import Rerun
from sightline.memory import with_less_memory


@dataclass(frozen=True)
class RowCut:
    """Layers in which one map row hides its sources; place: which row of the map."""

    place: int
    layers: tuple[int, ...]


def cuts_of(layers: Sequence[int], window: int, attention_layers: Sequence[int]) -> list[RowCut]:
    """For each centre the layers with softmax attention in a window around it, cut off at the ends; ordered by start.

    A window of even width reaches one layer further up than down. Centres whose window has no such layer are left out.
    """
    cuts = []
    for place, centre in enumerate(layers):
        reach = range(centre - (window - 1) // 2, centre + window // 2 + 1)
        inside = tuple(layer for layer in attention_layers if layer in reach)
        if inside:
            cuts.append(RowCut(place, inside))
    return sorted(cuts, key=lambda cut: cut.layers[0])


def empty_maps(cuts: Sequence[RowCut], rows: int, columns: int) -> dict[str, Tensor]:
    """Maps of [rows, columns]: 0 in the rows that are cut, NaN in the others."""
    maps = {name: torch.full((rows, columns), torch.nan, dtype=torch.float64) for name in EFFECTS}
    for values in maps.values():
        values[[cut.place for cut in cuts]] = 0
    return maps


def causal_row(
    rerun: Rerun, groups: Sequence[Sequence[int]], layers: Sequence[int], window: int, answer: RowAnswer
) -> dict[str, Tensor]:
    """Maps of the captured row, [layers, groups] each, float32; NaN where a row sees nothing but the source."""
    attention_layers = [layer.index for layer in rerun.capture.layers if layer.row is not None]
    cuts = cuts_of(layers, window, attention_layers)
    maps = empty_maps(cuts, len(layers), len(groups))
    size = max(1, rerun.rows_carried() // max(1, len(cuts)))
    for start in range(0, len(groups), size):
        _fill(maps, rerun, groups[start : start + size], start, cuts, answer)
    return {name: values.float() for name, values in maps.items()}


@dataclass
class _RowBatch:
    """Rows on their way up: by row its state, its source, the place of its effect, and the last layer that hides."""

    hidden: Tensor
    source: Tensor
    place: Tensor
    until: Tensor

    def joined(self, other: _RowBatch) -> _RowBatch:
        return _RowBatch(
            torch.cat([self.hidden, other.hidden], -3),
            torch.cat([self.source, other.source]),
            torch.cat([self.place, other.place]),
            torch.cat([self.until, other.until]),
        )


def _fill(
    maps: dict[str, Tensor],
    rerun: Rerun,
    groups: Sequence[Sequence[int]],
    first: int,
    cuts: Sequence[RowCut],
    answer: RowAnswer,
) -> None:
    """The columns of some sources, `first` and on."""
    device = rerun.layer(0).hidden.device
    nothing = len(groups)
    every = Groups.of([*groups, ()], device)
    rows: _RowBatch | None = None
    shared: Shared = {}
    for index in range(cuts[0].layers[0] if cuts else len(rerun.capture.layers), len(rerun.capture.layers)):
        present = 0 if rows is None else len(rows.source)
        for cut in cuts:
            if cut.layers[0] == index:
                fresh = _start(maps, rerun, every, nothing, first, cut)
                rows = fresh if rows is None else rows.joined(fresh)
        if rows is None or not len(rows.source):
            continue
        attend = _Attend(rerun, index, every, nothing, rows, present)
        rows.hidden = rerun.run(index, rows.hidden, attend, shared, is_one=not present)
        added = rerun.layer(index).added
        if added is not None:
            rows.hidden = rows.hidden + added
    if rows is None or not len(rows.source):
        return
    for name, values in _effects(rerun, rows.hidden, answer).items():
        maps[name][rows.place.cpu(), first + rows.source.cpu()] = values.cpu()


def _effects(rerun: Rerun, hidden: Tensor, answer: RowAnswer) -> dict[str, Tensor]:
    """What the rows that leave the last layer differ by, some at once."""
    sizes = [rerun.rows_answered()]
    parts: list[dict[str, Tensor]] = []

    def attempt() -> None:
        while (start := sum(len(part["kl"]) for part in parts)) < hidden.shape[-3]:
            parts.append(answer.effects(rerun.logits(hidden[..., start : start + sizes[-1], :, :])))

    def shrink() -> bool:
        sizes.append(max(1, sizes[-1] // 2))
        return sizes[-2] > 1

    with_less_memory(attempt, shrink)
    return {name: torch.cat([part[name] for part in parts]) for name in EFFECTS}


def _start(maps: dict[str, Tensor], rerun: Rerun, every: Groups, nothing: int, first: int, cut: RowCut) -> _RowBatch:
    """The rows of one cut; a source that no layer of it sees has no effect, and travels not."""
    device = every.flat.device
    sources = torch.arange(nothing, device=device)
    hidden = every.hidden(sources)
    seen = torch.zeros(nothing, dtype=torch.bool, device=device)
    blind = seen.clone()
    for index in cut.layers:
        row = rerun.layer(index).row
        if row is not None:
            seen, blind = seen | row.reaches(hidden), blind | row.is_blind(hidden)
    for values in maps.values():
        values[cut.place, first + blind.nonzero()[:, 0].cpu()] = torch.nan
    sources = (seen & ~blind).nonzero()[:, 0]
    state = rerun.layer(cut.layers[0]).hidden
    return _RowBatch(
        state.expand(*state.shape[:-3], len(sources), -1, -1),
        sources,
        torch.full_like(sources, cut.place),
        torch.full_like(sources, cut.layers[-1]),
    )


@dataclass(frozen=True)
class _Attend:
    """The attention of one layer for the travellers, of which the first `present` come from the layer below."""

    rerun: Rerun
    index: int
    every: Groups
    nothing: int
    rows: _RowBatch
    present: int

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, part: slice) -> Tensor:
        row = self.rerun.layer(self.index).row
        if row is None:
            raise ModelError(f"Layer {self.index} attends where it was not seen to.")
        source = torch.where(self.rows.until[part] >= self.index, self.rows.source[part], self.nothing)
        old = min(max(self.present - part.start, 0), len(query))
        outputs = []
        if old:
            hides = bool((source[:old] != self.nothing).any())
            hidden = self.every.hidden(source[:old]) if hides else None
            outputs.append(row.replaced(query[:old], key[:old], value[:old], hidden))
        if old < len(query):
            # The query of a row that joins is the prompt's own.
            outputs.append(row.output() + row.changes(self.every.hidden(source[old:])))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
