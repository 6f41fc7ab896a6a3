"""Where each generated token looks: attention by layer on the words of the prompt and the patches of its images.

A few numbers a token, layer and patch; no S x S matrix is kept. Values are attention weights of the row that predicts
the token, averaged over heads or by head, as the model uses them; those of pooled patches are sums.
"""

from __future__ import annotations

import base64
import functools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.row_buffer import RowBuffer
from sightline.attention.sink_tracker import SinkTracker, track_sinks
from sightline.methods.base import anatomy_and_layout
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, PatchGrid, TokenLayout, layout_of

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks

Array = NDArray[np.float32]

MOST_WORDS = 64
"""Generated tokens that are kept, the first."""

MOST_TEXT = 400
"""Words of the prompt that are kept: the first tenth of these, and the last."""

MOST_PATCHES = 1024
"""Patches of a sample that are kept apart; of more, squares of neighbours are summed."""

MOST_HEAD_PATCHES = 144
"""The same for maps by head."""

MOST_BY_WORD = 400_000
"""Values by head that are kept for each word; of more, the mean over the words is."""


@dataclass(frozen=True)
class MapGrid:
    """Patches of one image or frame. cells: [rows, columns] the map's column of each, -1 where there is none.

    index: which image of the sample; box: the part of it that the grid covers; pooled: patches summed along a side.
    """

    modality: str
    index: int
    cells: NDArray[np.int64]
    box: tuple[float, ...] | None = None
    frame: int | None = None
    pooled: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "modality": self.modality,
            "index": self.index,
            "shape": list(self.cells.shape),
            "cells": self.cells.ravel().tolist(),
            "box": None if self.box is None else list(self.box),
            "frame": self.frame,
            "pooled": self.pooled,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> MapGrid:
        """The inverse of `to_dict`."""
        box = document.get("box")
        cells = np.array(document["cells"], dtype=np.int64).reshape(document["shape"])
        return cls(
            document["modality"],
            int(document["index"]),
            cells,
            None if box is None else tuple(box),
            document.get("frame"),
            int(document["pooled"]),
        )


@dataclass(frozen=True)
class SampleMaps:
    """The maps of one sample.

    Attributes:
        layers: those with softmax attention.
        positions: of the words of the prompt that are kept; the first columns of the maps.
        grids: of the patches, which are the other columns.
        mean: [words, layers, columns], over heads.
        heads: [words or 1, layers, heads, columns of head_grids]; with 1, the mean over the words. None without images.
        sinks: [layers, columns], bool: where sinks are known, else only BOS.
        has_sinks: whether sinks were looked for.
    """

    layers: tuple[int, ...]
    positions: tuple[int, ...]
    grids: tuple[MapGrid, ...]
    mean: Array
    heads: Array | None
    head_grids: tuple[MapGrid, ...]
    sinks: NDArray[np.bool_]
    has_sinks: bool

    def to_dict(self) -> dict[str, Any]:
        """As a run folder keeps it: values as bytes on a square-root scale, each word and layer by its largest."""
        return {
            "layers": list(self.layers),
            "positions": list(self.positions),
            "grids": [grid.to_dict() for grid in self.grids],
            "mean": pack(self.mean, 1),
            "heads": None if self.heads is None else pack(self.heads, 1),
            "head_grids": [grid.to_dict() for grid in self.head_grids],
            "sinks": _packed_bits(self.sinks),
            "has_sinks": self.has_sinks,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SampleMaps:
        """The inverse of `to_dict`, to within 1/255 of the root of each word's and layer's largest value."""
        mean = unpack(document["mean"])
        heads = document["heads"]
        return cls(
            tuple(document["layers"]),
            tuple(document["positions"]),
            tuple(map(MapGrid.from_dict, document["grids"])),
            mean,
            None if heads is None else unpack(heads),
            tuple(map(MapGrid.from_dict, document["head_grids"])),
            _unpacked_bits(document["sinks"], (mean.shape[1], mean.shape[2])),
            bool(document["has_sinks"]),
        )


@contextmanager
def read_maps(
    model: Any,
    inputs: Mapping[str, Any] | None = None,
    layout: LayoutSource | None = None,
    sinks: Sinks | None = None,
) -> Iterator[MapReader]:
    """Inside, what the model generates leaves its maps; ask the reader that is yielded for `maps()`.

    model: a `VLM` or a bare Transformers model. inputs: what its `generate` is given; some models encode the images
    before their forward, which then is not told how patches lie, and these inputs are. sinks: as `find_sinks` returns
    them, to be marked in the maps. Changes nothing; one prompt, or one batch of prompts, a `with`.
    """
    anatomy, source = anatomy_and_layout(model, layout)
    dims, tau = (sinks.dims, sinks.tau) if sinks is not None else ((), 1.0)
    with track_sinks(anatomy, dims, tau) as watch:
        read = getattr(model, "layout", functools.partial(layout_of, anatomy))
        known = None if inputs is None else read(inputs)
        reader = MapReader(anatomy, watch, known, has_sinks=sinks is not None)
        with attach(anatomy, reader=reader, layout=source):
            yield reader


class MapReader:
    """The reader behind `read_maps`."""

    def __init__(self, anatomy: Anatomy, watch: SinkTracker, known: TokenLayout | None, has_sinks: bool) -> None:
        self._layers = anatomy.attention_layers
        self._watch = watch
        self._known = known
        self._has_sinks = has_sinks
        self._tape = RowBuffer(self._consume)
        self._layout: TokenLayout | None = None
        self._columns: list[_Columns] = []
        self._first = 0
        self._steps = 0
        self._mean: dict[tuple[int, int], list[Array]] = {}
        self._heads: dict[tuple[int, int], list[Array]] = {}
        self._sinks: dict[int, Tensor] = {}

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        self._tape.begin(step)
        self._watch.begin(step)
        if self._layout is not step.layout:
            self._layout = step.layout
            layout = self._with_grids(step.layout)
            self._columns = [_Columns.of(layout, sample) for sample in range(layout.batch)]
        if not step.is_decoding:
            self._first = self._steps  # pieces of a prompt before its last predict nothing that is kept
        self._steps += 1

    def _with_grids(self, layout: TokenLayout) -> TokenLayout:
        """The layout with the grids of the inputs, where it has none and is of the same positions."""
        known = self._known
        if known is None or any(layout.grids) or not torch.equal(known.modality, layout.modality):
            return layout
        return known

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Take the row that predicts the next token."""
        marks = self._watch.marks(layer)
        if marks is not None and not step.is_decoding:
            self._sinks[layer] = marks.cpu()
        if self._steps - self._first <= MOST_WORDS:
            self._tape.keep(layer, attention, step, self._steps - 1)

    def end(self, step: ForwardPass) -> None:
        """Rows of decoding steps may go on waiting."""

    def maps(self, counts: Sequence[int]) -> list[SampleMaps]:
        """One a sample of the batch; counts: how many tokens each generated."""
        self._tape.flush()
        return [self._sample(sample, count) for sample, count in enumerate(counts)]

    def _consume(self, layer: int, attention: EditedCall, rows: Tensor, numbers: list[int]) -> None:
        weights = attention.row_weights(rows)
        first = attention.call.first_key
        for number, values in zip(numbers, weights.unbind(2), strict=True):  # [batch, heads, keys]
            own = [columns.gather(values[sample], first) for sample, columns in enumerate(self._columns)]
            self._mean[layer, number] = [mean for mean, _ in own]
            self._heads[layer, number] = [heads for _, heads in own]

    def _sample(self, sample: int, count: int) -> SampleMaps:
        columns = self._columns[sample]
        words = range(self._first, self._first + min(count, MOST_WORDS, self._steps - self._first))
        layers = [layer for layer in self._layers if all((layer, word) in self._mean for word in words)]
        mean = np.stack([np.stack([self._mean[layer, word][sample] for layer in layers]) for word in words])
        heads = None
        if columns.head_grids:
            by_layer = [[self._heads[layer, word][sample] for layer in layers] for word in words]
            heads = _by_word(by_layer)
        sinks = np.zeros(mean.shape[1:], dtype=np.bool_)
        sinks[:, columns.bos] = True
        for place, layer in enumerate(layers):
            if layer in self._sinks:
                sinks[place] |= columns.marked(self._sinks[layer][sample])
        positions, grids = columns.positions, columns.grids
        return SampleMaps(tuple(layers), positions, grids, mean, heads, columns.head_grids, sinks, self._has_sinks)


def _by_word(by_layer: list[list[Array]]) -> Array:
    """[words, layers, heads, columns], or the mean over the words where that is too much."""
    size = sum(part.size for layers in by_layer for part in layers)
    if size <= MOST_BY_WORD:
        return np.stack([np.stack(layers) for layers in by_layer]).astype(np.float32)
    total = sum(np.stack(layers).astype(np.float32) for layers in by_layer)
    return np.asarray(total / len(by_layer), dtype=np.float32)[None]


@dataclass(frozen=True)
class _Columns:
    """Which column of the maps each position of a prompt adds to; the last, which is dropped, where to none."""

    positions: tuple[int, ...]
    grids: tuple[MapGrid, ...]
    head_grids: tuple[MapGrid, ...]
    column: Tensor
    head_column: Tensor
    bos: list[int]

    @classmethod
    def of(cls, layout: TokenLayout, sample: int) -> _Columns:
        positions = layout.positions(sample, Modality.TEXT).tolist()
        if len(positions) > MOST_TEXT:
            positions = positions[: MOST_TEXT // 10] + positions[-(MOST_TEXT - MOST_TEXT // 10) :]
        grids, cells = _pooled(layout.grids[sample], MOST_PATCHES, len(positions))
        head_grids, head_cells = _pooled(layout.grids[sample], MOST_HEAD_PATCHES, 0)
        column = _table(layout.length, {place: number for number, place in enumerate(positions)} | cells)
        bos = [number for number, place in enumerate(positions) if bool(layout.bos[sample, place])]
        return cls(tuple(positions), grids, head_grids, column, _table(layout.length, head_cells), bos)

    def gather(self, weights: Tensor, first: int) -> tuple[Array, Array]:
        """Of [heads, keys]: the mean over heads by column, and by head the columns of its patches."""
        parts = []
        for column in (self.column, self.head_column):
            width = int(column.max()) + 1
            keys = column[first : first + weights.shape[1]].to(weights.device)
            missing = weights.shape[1] - len(keys)
            keys = torch.nn.functional.pad(keys, (0, missing), value=width - 1) if missing else keys
            sums = weights.new_zeros((weights.shape[0], width)).index_add_(1, keys, weights)[:, : width - 1]
            parts.append(sums)
        mean, heads = parts[0].mean(0), parts[1]
        return mean.float().cpu().numpy(), heads.half().cpu().numpy()

    def marked(self, marks: Tensor) -> NDArray[np.bool_]:
        """[columns]: those that a marked position adds to."""
        width = int(self.column.max()) + 1
        found = np.zeros(width, dtype=np.bool_)
        found[self.column[: len(marks)][marks[: len(self.column)]].numpy()] = True
        return found[:-1]


def _table(length: int, cells: Mapping[int, int]) -> Tensor:
    rest = max(cells.values(), default=-1) + 1
    table = torch.full((length + 1,), rest, dtype=torch.long)  # one more, so that the rest always has a place
    for place, number in cells.items():
        table[place] = number
    return table


def _pooled(grids: Sequence[PatchGrid], most: int, start: int) -> tuple[tuple[MapGrid, ...], dict[int, int]]:
    """The grids with squares of neighbours put together until there are at most `most`, and each position's column."""
    total = sum(grid.rows * grid.columns for grid in grids)
    side = max(1, math.ceil(math.sqrt(total / most)))
    found, columns = [], {}
    for grid in grids:
        cells = np.full((math.ceil(grid.rows / side), math.ceil(grid.columns / side)), -1, dtype=np.int64)
        for row, line in enumerate(grid.positions.tolist()):
            for column, place in enumerate(line):
                if place < 0:
                    continue
                spot = row // side, column // side
                if cells[spot] < 0:
                    cells[spot] = start
                    start += 1
                columns[place] = int(cells[spot])
        found.append(MapGrid(grid.modality.name.lower(), grid.index, cells, grid.box, grid.frame, side))
    return tuple(found), columns


# Bytes --------------------------------------------------------------------------------------------------------------


def pack(values: Array, group_axis: int) -> dict[str, Any]:
    """Values as bytes: |v| = scale (b / 255)^2, a scale for each entry of the axes up to `group_axis`.

    Returns {"shape", "scale", "bytes"}: the scales as little-endian float32 in base64, the bytes deflated, in base64.
    """
    axes = tuple(range(group_axis + 1, values.ndim))
    scale = np.max(values, axis=axes, initial=0.0).astype("<f4")
    shaped = scale.reshape(scale.shape + (1,) * len(axes))
    share = np.divide(values, shaped, out=np.zeros(values.shape, dtype=np.float32), where=shaped > 0)
    levels = np.rint(np.sqrt(np.clip(share, 0, 1)) * 255).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "scale": base64.b64encode(scale.tobytes()).decode(),
        "bytes": base64.b64encode(zlib.compress(levels.tobytes(), 6)).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> Array:
    """The inverse of `pack`; ValueError where the bytes are torn."""
    shape = tuple(packed["shape"])
    scale = np.frombuffer(base64.b64decode(packed["scale"]), dtype="<f4")
    try:
        levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["bytes"])), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"the bytes of a map cannot be read ({error})") from error
    values = (levels.reshape(shape).astype(np.float32) / 255) ** 2
    groups = values.reshape(scale.size, -1) if scale.size else values.reshape(0, 0)
    return np.asarray((groups * scale[:, None]).reshape(shape), dtype=np.float32)


def _packed_bits(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def _unpacked_bits(text: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=math.prod(shape))
    return bits.reshape(shape).astype(np.bool_)
