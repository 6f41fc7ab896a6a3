"""Causal impact: the edge from a source to one row is cut in some layers, and the effect is read at the model's end.

A cut changes the row alone. Every other position is as it was, so all variants travel up together as rows beside one
shared set of keys and values, each with its own last key and value; those cut at a layer join there. L layers by N
sources are then L (L + 1) / 2 times N rows of a layer: about half as many forward passes of N positions as layers.

With the rows of a cut goes their twin, of which nothing is hidden. A row whose cuts are over and that leaves a layer
bit for bit as its twin does has no effect from there on and stays behind: those of sources that are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.attention.knockout import Groups
from sightline.errors import ModelError
from sightline.knockout.answer import EFFECTS, RowAnswer
from sightline.knockout.layer_pass import Shared
from sightline.knockout.rerun import Rerun
from sightline.memory import with_less_memory

_TWINS = 64
"""Twins whose logits are computed at once."""


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
    rerun: Rerun,
    groups: Sequence[Sequence[int]],
    layers: Sequence[int],
    window: int,
    answer: RowAnswer,
    edges: Bool[Tensor, "layers groups"] | None = None,
) -> dict[str, Tensor]:
    """Maps of the captured row, [layers, groups] each, float32; NaN where a row sees nothing but the source.

    edges: those alone; the others are 0.
    """
    attention_layers = [layer.index for layer in rerun.capture.layers if layer.row is not None]
    cuts = cuts_of(layers, window, attention_layers)
    maps = empty_maps(cuts, len(layers), len(groups))
    size = max(1, rerun.rows_carried() // max(1, len(cuts)))
    if edges is not None and int(edges.sum()) <= rerun.rows_carried():
        size = len(groups)
    for start in range(0, len(groups), size):
        some = slice(start, start + size)
        _fill(maps, rerun, groups[some], start, cuts, answer, None if edges is None else edges[:, some])
    return {name: values.float() for name, values in maps.items()}


@dataclass
class _RowBatch:
    """Rows on their way up, each cut's behind their twin.

    hidden: their states, [..., rows, 1, hidden size]
    source: by row, what is hidden; place: of its effect, -1 for a twin; until: the last layer that hides
    twin: by row, which row is its twin
    """

    hidden: Tensor
    source: Tensor
    place: Tensor
    until: Tensor
    twin: Tensor

    def joined(self, other: _RowBatch) -> _RowBatch:
        return _RowBatch(
            torch.cat([self.hidden, other.hidden], -3),
            torch.cat([self.source, other.source]),
            torch.cat([self.place, other.place]),
            torch.cat([self.until, other.until]),
            torch.cat([self.twin, other.twin + len(self.twin)]),
        )

    def moved(self, layer: int, shared: Shared) -> _RowBatch:
        """Those that have not left the layer as their twin did, or are to be cut again; `shared` is cut alike."""
        same = (self.hidden == self.hidden.index_select(-3, self.twin)).movedim(-3, 0).flatten(1).all(1)
        stays = ~same | (self.until > layer) | (self.place < 0)
        if bool(stays.all()):
            return self
        kept = stays.nonzero()[:, 0]
        for name, parts in shared.items():
            mine = kept[kept < len(parts[0])]
            shared[name] = tuple(part[mine] for part in parts)
        return _RowBatch(
            self.hidden.index_select(-3, kept),
            self.source[kept],
            self.place[kept],
            self.until[kept],
            (stays.cumsum(0) - 1)[self.twin[kept]],
        )


def _fill(
    maps: dict[str, Tensor],
    rerun: Rerun,
    groups: Sequence[Sequence[int]],
    first: int,
    cuts: Sequence[RowCut],
    answer: RowAnswer,
    edges: Tensor | None = None,
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
                fresh = _start(maps, rerun, every, nothing, first, cut, edges)
                rows = rows.joined(fresh) if rows is not None and fresh is not None else rows or fresh
        if rows is None:
            continue
        attend = _Attend(rerun, index, every, nothing, rows, present)
        rows.hidden = rerun.run(index, rows.hidden, attend, shared, is_one=not present)
        rows = rows.moved(index, shared)
        added = rerun.layer(index).added
        if added is not None:
            rows.hidden = rows.hidden + added
    if rows is None:
        return
    changed = (rows.place >= 0).nonzero()[:, 0]
    if not len(changed):
        return
    places, columns = rows.place[changed].cpu(), first + rows.source[changed].cpu()
    for name, values in _effects(rerun, rows, changed, answer).items():
        maps[name][places, columns] = values.cpu()


def _effects(rerun: Rerun, rows: _RowBatch, changed: Tensor, answer: RowAnswer) -> dict[str, Tensor]:
    """What the changed rows that leave the last layer differ by from their twins, so that both are rounded alike."""
    sizes = [rerun.rows_answered()]
    parts: list[dict[str, Tensor]] = []
    is_twin = rows.place < 0
    number = is_twin.cumsum(0) - 1
    twins = rows.hidden.index_select(-3, is_twin.nonzero()[:, 0])
    untouched = torch.cat([rerun.logits(part) for part in torch.split(twins, _TWINS, -3)])

    def attempt() -> None:
        while (start := sum(len(part["kl"]) for part in parts)) < len(changed):
            some = changed[start : start + sizes[-1]]
            logits = rerun.logits(rows.hidden.index_select(-3, some))
            parts.append(answer.effects(logits, untouched[number[rows.twin[some]]]))

    def shrink() -> bool:
        sizes.append(max(1, sizes[-1] // 2))
        return sizes[-2] > 1

    with_less_memory(attempt, shrink)
    return {name: torch.cat([part[name] for part in parts]) for name in EFFECTS}


def _start(
    maps: dict[str, Tensor],
    rerun: Rerun,
    every: Groups,
    nothing: int,
    first: int,
    cut: RowCut,
    edges: Tensor | None = None,
) -> _RowBatch | None:
    """The rows of one cut behind their twin; a source that no layer of it sees has no effect and no row."""
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
    if edges is not None:
        seen = seen & edges[cut.place].to(device)
    sources = (seen & ~blind).nonzero()[:, 0]
    if not len(sources):
        return None
    state = rerun.layer(cut.layers[0]).hidden
    alone = sources.new_full((1,), nothing)
    return _RowBatch(
        state.expand(*state.shape[:-3], 1 + len(sources), -1, -1),
        torch.cat([alone, sources]),
        torch.cat([alone.new_full((1,), -1), torch.full_like(sources, cut.place)]),
        torch.full((1 + len(sources),), cut.layers[-1], device=device),
        sources.new_zeros(1 + len(sources)),
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
