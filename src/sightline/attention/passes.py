"""Forward passes distinguished: the start of a prompt, the next piece of one, a decoding step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet, ref

import torch
from torch import Tensor

from sightline.errors import LayoutError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.caches import has_same_start
from sightline.models.layout import PatchGrid, TokenLayout, layout_of
from sightline.models.transformers_api.cache import cache_from, cache_of

LayoutSource = TokenLayout | Callable[[Mapping[str, Any]], TokenLayout]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass.

    prompt: which prompt it belongs to, counted from 0. offset: positions the cache already holds; length: positions of
    this pass. layout: of the prompt (generated positions follow it). is_start: a new prompt begins with this pass.
    is_decoding: the pass reads a generated token. input_ids: [batch, length] or None. cache: as the model was given it.
    is_piece: it goes on with a prompt whose first pieces were passes of their own.
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
    is_piece: bool = False

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
    reached: int = 0
    """Positions up to the end of the last pass: a cache can't hold more."""
    caches: WeakSet[Any] = field(default_factory=WeakSet)
    """Those that this model filled in passes seen here."""
    latest: Callable[[], Any] = lambda: None
    """The last of them, while it lives."""
    starts: int | None = None
    """Prompts begun by the `generate` that is running; None outside of one."""

    def next(self, inputs: Mapping[str, Any]) -> ForwardPass:
        """The pass that a forward with these inputs is.

        Raises:
            ModelError: for a pass of which what came before it can't be known.
        """
        cache = cache_of(inputs)
        offset = self._cached(cache)
        ids = inputs.get("input_ids")
        length = _length(inputs)
        is_next = length == 1 and offset == self.reached and cache is not None and cache is self.latest()
        if is_next and self.layout is not None and offset >= self.layout.length:
            # The next token of an answer, as nearly every pass is.
            self.ids, self.reached = ids, offset + 1
            return ForwardPass(self.prompt, offset, 1, self.layout, False, True, ids, cache, inputs)
        grown = self._is_regrown(offset, ids)
        is_start, is_piece = offset == 0 and not grown, False
        self._require_known(cache, offset, length, is_start)
        if is_start:
            layout = self._layout(inputs)
            self.prompt += 1
        elif self.layout is None:
            raise ModelError("A decoding step came before its prompt: enter the method before the prompt is run.")
        elif offset > 0 and offset + length > self.layout.length and length > 1:
            # Behind an answer it is the next turn of a conversation.
            is_piece = offset <= self.layout.length
            layout = self._extended(self.layout, inputs, offset)
        else:
            layout = self.layout
        self.layout, self.ids, self.reached = layout, ids, offset + length
        if cache is not None:
            self._know(cache)
        is_decoding = not is_start and offset + length > layout.length
        return ForwardPass(self.prompt, offset, length, layout, is_start, is_decoding, ids, cache, inputs, is_piece)

    def note(self, output: Any) -> None:
        """A pass is over: the cache that it gave back is one that was seen."""
        cache = cache_from(output)
        if cache is not None and cache is not self.latest():
            self._know(cache)

    @contextmanager
    def one_prompt(self) -> Iterator[None]:
        """Inside, one `generate` runs: all its passes belong to one prompt."""
        before, self.starts = self.starts, 0
        try:
            yield
        finally:
            self.starts = before

    def _know(self, cache: Any) -> None:
        self.caches.add(cache)
        self.latest = ref(cache)

    def _cached(self, cache: Any) -> int:
        if cache is None:
            return 0
        if not hasattr(cache, "get_seq_length"):
            raise ModelError(
                f"A cache of kind {type(cache).__name__} does not tell how many positions it holds, so passes can't be "
                "told apart: leave it out."
            )
        # A hybrid's first layer may keep a state instead of keys; the first with softmax attention counts positions.
        return int(cache.get_seq_length(self.anatomy.attention_layers[0]))

    def _require_known(self, cache: Any, offset: int, length: int, is_start: bool) -> None:
        kind = type(self.anatomy.model).__name__
        if offset and (offset > self.reached or not self._is_ours(cache, offset)):
            raise ModelError(
                f"The cache given to {kind} holds {offset} positions that were not run inside this `with`, or that "
                "another model filled: enter the method or probe before the prompt is run."
            )
        if not is_start:
            return
        if self.starts:
            raise ModelError(
                f"One generate of {kind} began a second prompt, of {length} positions with nothing cached before them, "
                "so it can't be told which passes belong together: leave out what runs the model beside the answer, as "
                "guidance_scale does, or install a release of Transformers that was tested."
            )
        if length == 1 and cache is None and self.layout is not None:
            raise ModelError(
                f"A pass of one token came to {kind} without a cache after a prompt of {self.layout.length} positions, "
                "so it can't be told what it follows: hand the cache on, or give the whole sequence."
            )
        if self.starts is not None:
            self.starts += 1

    def _is_ours(self, cache: Any, offset: int) -> bool:
        """Whether a cache is one that was seen being filled, or begins as one does (a copy of a prompt's)."""
        layer = self.anatomy.attention_layers[0]
        return cache in self.caches or any(has_same_start(cache, seen, layer, offset) for seen in self.caches)

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

        Only the prompt is compared: beams change places, and their words go with them.
        """
        if offset or ids is None or self.ids is None or self.layout is None or self.ids.shape[0] != ids.shape[0]:
            return False
        prompt = self.layout.length
        return ids.shape[1] == self.ids.shape[1] + 1 and torch.equal(ids[:, :prompt], self.ids[:, :prompt])

    def _extended(self, before: TokenLayout, inputs: Mapping[str, Any], offset: int) -> TokenLayout:
        """With the next piece of a prompt that is run in pieces, or the next turn of a conversation on a kept cache."""
        piece = self._layout(inputs)
        if offset > before.length:
            before = before.grown(offset - before.length)
        modality = torch.cat([before.modality[:, :offset], piece.modality], 1)
        bos = torch.cat([before.bos[:, :offset], torch.zeros_like(piece.bos)], 1)
        moved = tuple(tuple(_moved(grid, offset) for grid in grids) for grids in piece.grids)
        grids = tuple(old + new for old, new in zip(before.grids, moved, strict=True))
        return replace(before, modality=modality, bos=bos, grids=grids, prompt_length=int(modality.shape[1]))


def _moved(grid: PatchGrid, offset: int) -> PatchGrid:
    return replace(grid, positions=torch.where(grid.positions >= 0, grid.positions + offset, grid.positions))


def _length(inputs: Mapping[str, Any]) -> int:
    for name in ("input_ids", "inputs_embeds"):
        given = inputs.get(name)
        if given is not None:
            return int(given.shape[1])
    raise LayoutError("The forward pass was given neither input_ids nor inputs_embeds, so its length is unknown.")
