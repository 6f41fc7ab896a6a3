"""Drops positions of the prompt between two decoder layers: those behind run on what is left, also while decoding.

A shortened layer is given the hidden states of the positions kept, each with its own rotary position (`stages` counts
them anew), and its cache only ever gets what it computes. Between layers the sequence keeps its length, a dropped
position the state it had, so that whatever else is done there (features added in deeper layers, states recorded or
looked at) goes on as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass
from sightline.attention.hooks import Hooks
from sightline.attention.token_subset import TokenSubset
from sightline.errors import InputError, ModelError
from sightline.methods.scoring import VISUAL, check_range, require_image
from sightline.methods.shorten import TokenSelection
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.models.transformers_api.cache import is_static

Keep = Callable[[Tensor, Tensor, int], Tensor]
"""From one sample's scores, [positions], the image tokens left, alike, and the number of all, to what stays."""


Raters = Callable[[TokenLayout, Tensor], "Tensor | None"]
"""From a layout and what enters the first layer, [batch, positions, hidden], to the rows that score; None: the last."""


class LayerPruning:
    """The dropper (see `sightline.attention.attach`) that drops positions before each layer of `stages`."""

    def __init__(
        self,
        name: str,
        anatomy: Anatomy,
        stages: Mapping[int, Keep],
        raters: Raters | None = None,
    ) -> None:
        first = min(stages)
        check_range(name, max(max(stages), 0), None, anatomy)
        check_range(name, max(first, 0), None, anatomy)
        if first < 1:
            raise InputError(f"{name} drops tokens by the attention of the layer before, so that K is at least 1.")
        kind = type(anatomy.model).__name__
        types = (getattr(anatomy.text_config, "layer_types", None) or [])[first:]
        windows = any(str(name) != "full_attention" for name in types) or getattr(
            anatomy.text_config, "sliding_window", None
        )
        if None in anatomy.attentions[first - 1 :] or windows:
            raise ModelError(
                f"{name} needs layers that attend to all positions, and {kind} has others from {first} on."
            )
        self._name, self._anatomy, self._stages, self._raters = name, anatomy, dict(sorted(stages.items())), raters
        self._features: Tensor | None = None
        self._step: ForwardPass | None = None
        self._kept: dict[int, TokenSelection] = {}
        self._whole: Tensor | None = None
        self._masks: dict[tuple[int, int], tuple[Any, TokenSelection, Any]] = {}
        self._grown: dict[int, TokenSelection] = {}
        self._hooks = Hooks(anatomy)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        self._step, self._masks, self._grown = step, {}, {}
        if step.is_start:
            require_image(self._name, step.layout)
            self._kept = {}
            self._hook()
        if is_static(step.cache):
            raise InputError(f"{self._name} shortens the cache: call generate without a static cache_implementation.")
        if step.inputs.get("labels") is not None:
            raise InputError(f"{self._name} drops tokens while a model answers: leave it out of training.")
        if not step.is_start and not step.is_decoding:
            raise InputError(f"{self._name} needs the whole prompt in one pass: leave prefill_chunk_size out.")

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The attention that says which positions stay."""
        if layer + 1 in self._stages and step.is_start:
            self._choose(layer + 1, attention, step)

    def _choose(self, number: int, attention: EditedCall, step: ForwardPass) -> None:
        """What stays from layer `number` on."""
        present = step.layout.modality != int(Modality.PADDING)
        image, before = step.layout.mask(*VISUAL), self._at(number - 1)
        totals = image.sum(1).tolist()
        if before is not None:
            gone = torch.ones_like(image)
            gone.scatter_(1, before.index.cpu(), ~before.is_real.cpu())
            image = image & ~gone
            if attention.call.queries != step.length:
                shown = TokenSubset(before.index, before.is_real, before.length).scatter_call(attention.call)
                attention = EditedCall(shown)
        scores = self._scores(attention, step, present)
        rule = self._stages[number]
        keep = torch.stack([rule(*sample) for sample in zip(scores, image, totals, strict=True)])
        keep = keep & (image | ~step.layout.mask(*VISUAL))
        device = attention.call.query.device
        kept = TokenSelection.of(keep.to(device), present.to(device))
        self._kept[number] = self._selected(number, scores, image, kept)

    def _selected(self, number: int, scores: Tensor, image: Tensor, kept: TokenSelection) -> TokenSelection:
        """What a stage makes of its choice."""
        return kept

    def _at_stage(self, number: int, module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        """Before a stage's first layer, on the prompt: what the layer is given, all positions among it."""
        return inputs

    def _placed(
        self, kept: TokenSelection, step: ForwardPass, whole: Mapping[str, Any], cut: dict[str, Any]
    ) -> dict[str, Any]:
        """What a layer behind a stage is given, at the positions where it stands: by default its own."""
        return cut

    def note_features(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the first layer: what enters it."""
        if self._step is not None and self._step.is_start:
            self._features = (args[0] if args else kwargs["hidden_states"]).detach()

    def _scores(self, attention: EditedCall, step: ForwardPass, present: Tensor) -> Tensor:
        """[batch, positions]: the attention that each position gets from the rows that score, heads averaged."""
        rated = None
        if self._raters is not None and self._features is not None:
            rated = self._raters(step.layout, self._features)
        if rated is None:
            end = torch.where(present, torch.arange(step.layout.length), -1).amax(1)
            rated = torch.arange(step.layout.length) == end[:, None]
        rows = rated.any(0).nonzero()[:, 0]
        weights = attention.row_weights(rows).mean(1).cpu()
        mine = rated[:, rows].float()
        return torch.einsum("brk,br->bk", weights, mine) / mine.sum(1, keepdim=True).clamp_min(1)

    def _at(self, layer: int) -> TokenSelection | None:
        """What a layer runs on; None for all."""
        return next((kept for first, kept in reversed(self._kept.items()) if first <= layer), None)

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        self._step, self._whole, self._masks, self._features = None, None, {}, None

    def subset(self, layer: int) -> TokenSubset | None:
        """What the layer runs on."""
        kept = self._at(layer)
        return None if kept is None else TokenSubset(kept.index, kept.is_real, kept.length)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Inside, the model's layers are given what stays."""
        try:
            yield
        finally:
            self._hooks.close()

    def _hook(self) -> None:
        """Behind the hooks of all that was entered before, so that these see the whole sequence."""
        self._hooks.close()
        first = min(self._stages)
        for number, layer in enumerate(self._anatomy.layers[first:], first):
            names = tuple(inspect.signature(layer.forward).parameters)
            self._hooks.before(layer, partial(self._enter, number, names))
            self._hooks.after(layer, partial(self._leave, number), prepend=True)

    def _enter(
        self, layer: int, names: tuple[str, ...], module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step = self._step
        if step is None:
            return None
        # A layer may be given by position what others are given by name.
        inputs = {**dict(zip(names, args, strict=False)), **inputs}
        is_prompt = step.offset == 0
        if is_prompt and layer in self._stages:
            inputs = self._at_stage(layer, module, inputs)
        kept = self._at(layer)
        if kept is None:
            return None
        if is_prompt:
            self._whole = next(value for value in inputs.values() if isinstance(value, Tensor))
        elif inputs.get("attention_mask") is None and kept.is_whole:
            # One sample's rows see all that is left in the cache.
            placed = self._placed(kept, step, inputs, inputs)
            return None if placed is inputs else ((), placed)
        return (), self._cut_inputs(kept, step, inputs)

    def _cut_inputs(self, kept: TokenSelection, step: ForwardPass, inputs: dict[str, Any]) -> dict[str, Any]:
        """What a layer is given, for what stays of a prompt, or for a token behind it."""
        is_prompt = step.offset == 0
        grown = self._with_generated(kept, step.offset + step.length - kept.length)
        changed = {**inputs, "attention_mask": self._mask(grown, inputs.get("attention_mask"), is_prompt)}
        if is_prompt:
            changed |= {name: _cut(grown, value) for name, value in inputs.items() if name != "attention_mask"}
        return self._placed(grown, step, inputs, changed)

    def _leave(self, layer: int, module: nn.Module, args: Any, output: Any) -> Any:
        whole, step, kept = self._whole, self._step, self._at(layer)
        if whole is None or step is None or kept is None:
            return None
        kept, self._whole = self._with_generated(kept, step.length - kept.length), None
        hidden = output if isinstance(output, Tensor) else output[0]
        # What only fills a row up goes to a place behind the sequence.
        places = kept.index.masked_fill(~kept.is_real, whole.shape[1])[..., None].expand(-1, -1, whole.shape[2])
        room = torch.nn.functional.pad(whole, (0, 0, 0, 1))
        full = room.scatter(1, places, hidden)[:, : whole.shape[1]]
        return full if isinstance(output, Tensor) else (full, *output[1:])

    def _with_generated(self, kept: TokenSelection, count: int) -> TokenSelection:
        """What a stage's layers run on, the generated tokens behind it; made once a pass."""
        if not count:
            return kept
        if id(kept) not in self._grown:
            self._grown[id(kept)] = kept.with_generated(count)
        return self._grown[id(kept)]

    def _mask(self, kept: TokenSelection, mask: Any, is_prompt: bool) -> Any:
        """The mask over what stays; layers that share a mask share its cut."""
        key = (id(mask), id(kept))
        if key not in self._masks:
            self._masks[key] = (mask, kept, self._cut_mask(kept, mask, is_prompt))
        return self._masks[key][2]

    def _cut_mask(self, kept: TokenSelection, mask: Any, is_prompt: bool) -> Any:
        if mask is None:
            if bool(kept.is_real.all()):
                return None
            seen = kept.is_real[:, None, None]
            if is_prompt:
                size = kept.index.shape[1]
                seen = seen & torch.ones(size, size, dtype=torch.bool, device=seen.device).tril()
            return seen
        if not isinstance(mask, Tensor):
            raise ModelError(f"{self._name} can't cut masks of kind {type(mask).__name__}: load the model with sdpa.")
        if mask.dim() == 2:
            return kept.rows(mask) * kept.is_real.to(mask.dtype)
        if is_prompt:
            mask = kept.ascending.rows(mask.transpose(1, 2)).transpose(1, 2)
        columns = kept.ascending.rows(mask.transpose(1, 3)).transpose(1, 3)
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return columns.masked_fill(~kept.is_real[:, None, None], hidden)


def _cut(kept: TokenSelection, value: Any) -> Any:
    """Cut what has the sequence's length behind an axis of the batch, or of size 1, to what stays."""
    if isinstance(value, tuple):
        return tuple(_cut(kept, part) for part in value)
    if not isinstance(value, Tensor) or not value.dim():
        return value
    batch, length = len(kept.index), kept.length
    for axis in (1, 2):
        if value.dim() > axis and value.shape[axis] == length and value.shape[axis - 1] in (1, batch):
            return kept.rows(value, axis)
    return value
