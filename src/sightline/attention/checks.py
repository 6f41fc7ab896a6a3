"""Is a model read rightly? Looked at in one forward pass and two decoding steps, each finding a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.hooks import Hooks
from sightline.attention.passes import ForwardPass
from sightline.attention.session import attach
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.models.logits import last_logits
from sightline.models.transformers_api.cache import kept_prompts
from sightline.models.transformers_api.generation import greedy_options

_TOLERANCE = 1e-3
"""By which the weights of a row, computed in float32, may miss a sum of 1."""


def check_model(anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout) -> list[str]:
    """What is wrong, a sentence each: positions, grids, passes, rows, and whether the attention found is what is used.

    The inputs are a batch that the model's forward takes; the model is left as it was.
    """
    found = [*_check_grids(layout), *_check_media(anatomy, layout)]
    plain = _logits(anatomy, inputs)
    for index in _outer_layers(anatomy):
        if torch.equal(plain, _without_attention(anatomy, inputs, index)):
            found.append(_not_used(index))
    return [*found, *_check_passes(anatomy, inputs, layout, is_edited=False)]


def check_reading(anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout) -> list[str]:
    """The cheap part of `check_model`, for a batch of two equal prompts: one forward pass and two decoding steps.

    The second row's attention is changed in each step, so that its logits must come apart from the first's.
    """
    return [
        *_check_grids(layout),
        *_check_media(anatomy, layout),
        *_check_passes(anatomy, inputs, layout, is_edited=True),
    ]


def _check_grids(layout: TokenLayout) -> list[str]:
    found = []
    for sample, grids in enumerate(layout.grids):
        for grid in grids:
            held = grid.positions[grid.positions >= 0]
            if not (layout.modality[sample][held] == grid.modality).all():
                found.append(
                    f"A patch grid of sample {sample} holds positions that are no {grid.modality.name.lower()}."
                )
            if len(set(held.tolist())) != held.numel():
                found.append(f"A patch grid of sample {sample} holds a position twice.")
    return found


def _check_media(anatomy: Anatomy, layout: TokenLayout) -> list[str]:
    media = layout.mask(Modality.IMAGE, Modality.VIDEO, Modality.AUDIO).any()
    return [] if anatomy.vision_tower is None or media else ["No position is image, video or audio."]


def _outer_layers(anatomy: Anatomy) -> tuple[int, ...]:
    return anatomy.attention_layers[:: max(1, len(anatomy.attention_layers) - 1)]


def _not_used(layer: int) -> str:
    return f"Silencing the attention of layer {layer} leaves the logits as they are: it is not the one used."


@dataclass
class _Watcher:
    """Reads the first and the last layer, and silences the second row's: the last in one step, the first in the next.

    The last comes first, since what it computes changes no keys.
    """

    layers: tuple[int, ...]
    is_edited: bool
    steps: list[ForwardPass] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)

    @property
    def silenced(self) -> int | None:
        """The layer to silence in the pass at hand."""
        number = len(self.steps) - 1
        return self.layers[-number] if self.is_edited and number in (1, 2) else None

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts; it is shown to the editor and to the reader."""
        if not self.steps or self.steps[-1] is not step:
            self.steps.append(step)

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """No attention for the second row."""
        if layer != self.silenced:
            return None
        rows = torch.arange(call.query.shape[0], device=call.query.device) != 1
        last = torch.tensor([call.queries - 1], device=call.query.device)
        return Edit(last, weights=lambda block: block.values * rows[:, None, None, None])

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The sums of the last row's weights, of samples whose last position is no padding."""
        call = attention.call
        if layer == self.layers[0]:
            self.lengths.append(call.queries)
        if layer not in self.layers or call.options.get("s_aux") is not None:
            return
        weights = EditedCall(call).row_weights(torch.tensor([call.queries - 1], device=call.query.device))
        is_real = torch.ones(len(weights), dtype=torch.bool)
        if not step.is_decoding:
            is_real = step.layout.modality[:, -1] != int(Modality.PADDING)
        total: Tensor = weights.sum(-1)[is_real.to(weights.device)]
        self.sums += total.flatten().tolist()

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""


class _SameTokens:
    """The logits processor that lets all rows choose as the first."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores[:1].expand_as(scores)


def _check_passes(anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout, is_edited: bool) -> list[str]:
    model: Any = anatomy.model
    watcher = _Watcher(_outer_layers(anatomy), is_edited)
    options = greedy_options(model, 3, [_SameTokens()] if is_edited else [])
    watching = attach(anatomy, reader=watcher, editor=watcher, layout=lambda _: layout)
    with torch.no_grad(), kept_prompts(anatomy.prompt_keepers), watching:
        output = model.generate(**inputs, **options)
    if not watcher.lengths:
        return ["The decoder layers that were found are not run by the model's forward."]
    if watcher.lengths[0] != layout.length:
        return [
            f"The decoder runs {watcher.lengths[0]} positions and the inputs have {layout.length}: the model puts "
            "features in itself, so the layout must be given by hand."
        ]
    found = []
    seen = [(step.is_start, step.is_decoding, step.offset + step.length) for step in watcher.steps]
    if seen != [(True, False, layout.length), *((False, True, layout.length + more) for more in (1, 2))]:
        found.append("Decoding steps are not seen as steps: passes of one answer can't be told apart.")
    wrong = [total for total in watcher.sums if not abs(total - 1) <= _TOLERANCE]
    if wrong:
        found.append(f"The attention weights of a row sum to {wrong[0]:.4f} instead of 1.")
    if is_edited:
        for step, layer in ((1, watcher.layers[-1]), (2, watcher.layers[0])):
            noise = (output.logits[0][0] - output.logits[0][1]).abs().max()
            if not (output.logits[step][0] - output.logits[step][1]).abs().max() > 2 * noise:
                found.append(_not_used(layer))
    return found


def _without_attention(anatomy: Anatomy, inputs: Mapping[str, Any], index: int) -> Tensor:
    def silence(_module: Any, _args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        zero = torch.zeros_like(first)
        return (zero, *output[1:]) if isinstance(output, tuple) else zero

    attention: Any = anatomy.attentions[index]
    with Hooks(anatomy) as hooks:
        hooks.after(attention, silence)
        return _logits(anatomy, inputs)


def _logits(anatomy: Anatomy, inputs: Mapping[str, Any]) -> Tensor:
    with torch.no_grad():
        output = anatomy.model(**{**last_logits(anatomy.model), **inputs})
    logits: Tensor = output.logits[:, -1].float()
    return logits
