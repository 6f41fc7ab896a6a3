"""Where each generated token looks: attention by layer on the words of the prompt and the patches of its images.

A few numbers a token, layer and patch; no S x S matrix is kept. Values are attention weights of the row that predicts
the token, averaged over heads or by head, as the model uses them; those of pooled patches are sums.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.row_buffer import RowBuffer
from sightline.attention.sink_tracker import SinkTracker, track_sinks
from sightline.methods.base import anatomy_and_layout
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout, layout_of
from sightline.probes.map_columns import MapColumns
from sightline.probes.map_values import Array, SampleMaps

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


MOST_WORDS = 64
"""Generated tokens that are kept, the first."""


MOST_BY_WORD = 400_000
"""Values by head that are kept for each word; of more, the mean over the words is."""


@contextmanager
def read_maps(
    model: Any,
    inputs: Mapping[str, Any] | None = None,
    layout: LayoutSource | None = None,
    sinks: Sinks | None = None,
) -> Iterator[MapReader]:
    """Inside, what the model generates leaves its maps; ask the reader that is yielded for `maps()`.

    model: a `VLM` or a bare Transformers model. inputs: what its `generate` is given; some models encode the images
    before their forward, which then does not hold how patches lie, and these inputs do. sinks: as `find_sinks` returns
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
        self._columns: list[MapColumns] = []
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
            self._columns = [MapColumns.of(layout, sample) for sample in range(layout.batch)]
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

    def _given(self, positions: tuple[int, ...], sample: int) -> tuple[int, ...]:
        """Of words, in the prompt as it was given, where a method has run a shorter or a longer one."""
        known, run = self._known, self._layout
        if known is None or run is None or torch.equal(known.modality, run.modality):
            return positions
        given, place = (layout.modality[sample] == int(Modality.TEXT) for layout in (known, run))
        if int(given.sum()) != int(place.sum()):
            return positions
        back = dict(zip(place.nonzero()[:, 0].tolist(), given.nonzero()[:, 0].tolist(), strict=True))
        return tuple(back.get(at, at) for at in positions)

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
        positions, grids = self._given(columns.positions, sample), columns.grids
        return SampleMaps(tuple(layers), positions, grids, mean, heads, columns.head_grids, sinks, self._has_sinks)


def _by_word(by_layer: list[list[Array]]) -> Array:
    """[words, layers, heads, columns], or the mean over the words where that is too much."""
    size = sum(part.size for layers in by_layer for part in layers)
    if size <= MOST_BY_WORD:
        return np.stack([np.stack(layers) for layers in by_layer]).astype(np.float32)
    total = sum(np.stack(layers).astype(np.float32) for layers in by_layer)
    return np.asarray(total / len(by_layer), dtype=np.float32)[None]


# Bytes --------------------------------------------------------------------------------------------------------------
