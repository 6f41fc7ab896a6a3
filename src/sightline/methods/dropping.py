"""Drops positions of the prompt between two decoder layers: those behind run on what is left, also while decoding.

A shortened layer is given the hidden states of the positions kept, each with its own rotary position, and its cache
only ever gets what it computes. Between layers the sequence keeps its length, a dropped position the state it had, so
that whatever else is done there (features added in deeper layers, states recorded or looked at) goes on as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from sightline.models.layout import Modality
from sightline.models.transformers_api import is_static

Keep = Callable[[Tensor, Tensor], Tensor]
"""From one sample's scores and image mask, both [positions], to the mask of what stays."""


class LayerPruning:
    """The dropper (see `sightline.attention.attach`) of layers `first` and up."""

    def __init__(self, name: str, anatomy: Anatomy, first: int, keep: Keep) -> None:
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
        self._name, self._anatomy, self._first, self._keep = name, anatomy, first, keep
        self._step: ForwardPass | None = None
        self._kept: TokenSelection | None = None
        self._whole: Tensor | None = None
        self._masks: dict[int, tuple[Any, Any]] = {}
        self._hooks = Hooks(anatomy)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        self._step, self._masks = step, {}
        if step.is_start:
            require_image(self._name, step.layout)
            self._kept = None
            self._hook()
        if is_static(step.cache):
            raise InputError(f"{self._name} shortens the cache: call generate without a static cache_implementation.")
        if step.inputs.get("labels") is not None:
            raise InputError(f"{self._name} drops tokens while a model answers: leave it out of training.")
        if not step.is_start and not step.is_decoding:
            raise InputError(f"{self._name} needs the whole prompt in one pass: leave prefill_chunk_size out.")

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The attention that tells which positions stay."""
        if layer != self._first - 1 or not step.is_start:
            return
        present = step.layout.modality != int(Modality.PADDING)
        end = torch.where(present, torch.arange(step.layout.length), -1).amax(1)
        rows, index = torch.unique(end, return_inverse=True)
        weights = attention.row_weights(rows).mean(1)
        scores = weights[torch.arange(len(end)), index.to(weights.device)].cpu()
        image = step.layout.mask(*VISUAL)
        keep = torch.stack([self._keep(*sample) for sample in zip(scores, image, strict=True)])
        device = attention.call.query.device
        self._kept = TokenSelection.of(keep.to(device), present.to(device))

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        self._step, self._whole, self._masks = None, None, {}

    def subset(self, layer: int) -> TokenSubset | None:
        """What the layer runs on."""
        if layer < self._first or self._kept is None:
            return None
        return TokenSubset(self._kept.index, self._kept.is_real, self._kept.length)

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
        for layer in self._anatomy.layers[self._first :]:
            self._hooks.before(layer, self._enter)
            self._hooks.after(layer, self._leave, prepend=True)

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step, kept = self._step, self._kept
        if step is None or kept is None:
            return None
        # A layer may be given by position what others are given by name.
        inputs = {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **inputs}
        is_prompt = step.offset == 0
        generated = step.length - kept.length if is_prompt else step.offset + step.length - kept.length
        kept = kept.with_generated(generated)
        changed = dict(inputs)
        changed["attention_mask"] = self._mask(kept, inputs.get("attention_mask"), is_prompt)
        if not is_prompt:
            return (), changed
        self._whole = next(value for value in inputs.values() if isinstance(value, Tensor))
        changed |= {name: _cut(kept, value) for name, value in inputs.items() if name != "attention_mask"}
        return (), changed

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        whole, step, kept = self._whole, self._step, self._kept
        if whole is None or step is None or kept is None:
            return None
        kept, self._whole = kept.with_generated(step.length - kept.length), None
        hidden = output if isinstance(output, Tensor) else output[0]
        # What only fills a row up goes to a place behind the sequence.
        places = kept.index.masked_fill(~kept.is_real, whole.shape[1])[..., None].expand(-1, -1, whole.shape[2])
        room = torch.nn.functional.pad(whole, (0, 0, 0, 1))
        full = room.scatter(1, places, hidden)[:, : whole.shape[1]]
        return full if isinstance(output, Tensor) else (full, *output[1:])

    def _mask(self, kept: TokenSelection, mask: Any, is_prompt: bool) -> Any:
        """The mask over what stays; layers that share a mask share its cut."""
        if id(mask) not in self._masks:
            self._masks[id(mask)] = (mask, self._cut_mask(kept, mask, is_prompt))
        return self._masks[id(mask)][1]

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
            mask = kept.rows(mask.transpose(1, 2)).transpose(1, 2)
        columns = kept.rows(mask.transpose(1, 3)).transpose(1, 3)
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
