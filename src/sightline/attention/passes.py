"""Forward passes told apart: the start of a prompt, the next piece of one, a decoding step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.errors import LayoutError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import PatchGrid, TokenLayout, layout_of
from sightline.models.transformers_api import cache_of

LayoutSource = TokenLayout | Callable[[Mapping[str, Any]], TokenLayout]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass.

    prompt: which prompt it belongs to, counted from 0. offset: positions the cache already holds; length: positions of
    this pass. layout: of the prompt (generated positions follow it). is_start: a new prompt begins with this pass.
    is_decoding: the pass reads a generated token. input_ids: [batch, length] or None. cache: as the model was given it.
    """

    prompt: int
    offset: int
    length: int
    layout: TokenLayout
    is_start: bool
    is_decoding: bool
    input_ids: Tensor | None
    cache: Any
    inputs: Mapping[str, Any]

    @property
    def batch(self) -> int:
        """Rows of the batch, beams included."""
        return self.layout.batch


@dataclass
class PassTracker:
    """Turns the inputs of successive forward passes into steps."""

    anatomy: Anatomy
    source: LayoutSource | None = None
    prompt: int = -1
    layout: TokenLayout | None = None
    ids: Tensor | None = None

    def next(self, inputs: Mapping[str, Any]) -> ForwardPass:
        """The step that a forward pass with these inputs is."""
        cache = cache_of(inputs)
        offset = self._cached(cache)
        ids = inputs.get("input_ids")
        length = _length(inputs)
        grown = self._is_regrown(offset, ids)
        is_start = self.layout is None or (offset == 0 and not grown)
        if is_start:
            self.prompt += 1
            self.layout = self._layout(inputs)
        elif offset > 0 and offset + length > self.layout.length and length > 1:  # type: ignore[union-attr]
            self._extend(inputs, offset)
        self.ids = ids
        layout = self.layout
        if layout is None:
            raise LayoutError("A decoding step came before its prompt: enter the method before the prompt is run.")
        is_decoding = not is_start and offset + length > layout.length
        return ForwardPass(self.prompt, offset, length, layout, is_start, is_decoding, ids, cache, inputs)

    def _cached(self, cache: Any) -> int:
        if cache is None or not hasattr(cache, "get_seq_length"):
            return 0
        # A hybrid's first layer may keep a state instead of keys; the first with softmax attention counts positions.
        return int(cache.get_seq_length(self.anatomy.attention_layers[0]))

    def _layout(self, inputs: Mapping[str, Any]) -> TokenLayout:
        source = self.source
        if source is None:
            return layout_of(self.anatomy, inputs)
        if callable(source):
            return source(inputs)
        ids = inputs.get("input_ids")
        rows = source.batch if ids is None else int(ids.shape[0])
        if ids is not None and int(ids.shape[1]) != source.length:
            raise LayoutError(f"The layout given has {source.length} positions and the prompt {int(ids.shape[1])}.")
        return source if rows == source.batch else source.repeated(rows // source.batch)

    def _is_regrown(self, offset: int, ids: Tensor | None) -> bool:
        """Without a cache each step repeats the whole sequence with one token more.

        Only the prompt is compared: beams change places, and what they said goes with them.
        """
        if offset or ids is None or self.ids is None or self.layout is None or self.ids.shape[0] != ids.shape[0]:
            return False
        prompt = self.layout.length
        return ids.shape[1] == self.ids.shape[1] + 1 and torch.equal(ids[:, :prompt], self.ids[:, :prompt])

    def _extend(self, inputs: Mapping[str, Any], offset: int) -> None:
        """The next piece of a prompt that is run in pieces, or the next turn of a conversation on a kept cache."""
        before = self.layout
        if before is None:
            return
        piece = self._layout(inputs)
        if offset > before.length:
            before = before.grown(offset - before.length)
        modality = torch.cat([before.modality[:, :offset], piece.modality], 1)
        bos = torch.cat([before.bos[:, :offset], torch.zeros_like(piece.bos)], 1)
        moved = tuple(tuple(_moved(grid, offset) for grid in grids) for grids in piece.grids)
        grids = tuple(old + new for old, new in zip(before.grids, moved, strict=True))
        self.layout = replace(before, modality=modality, bos=bos, grids=grids, prompt_length=int(modality.shape[1]))


def _moved(grid: PatchGrid, offset: int) -> PatchGrid:
    return replace(grid, positions=torch.where(grid.positions >= 0, grid.positions + offset, grid.positions))


def _length(inputs: Mapping[str, Any]) -> int:
    for name in ("input_ids", "inputs_embeds"):
        given = inputs.get(name)
        if given is not None:
            return int(given.shape[1])
    raise LayoutError("The forward pass was given neither input_ids nor inputs_embeds, so its length is unknown.")
