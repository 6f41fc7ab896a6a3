"""Does the reading of a model hold? Looked at in one or two forward passes, each finding a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sightline.models.layout.patches import Modality

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy
    from sightline.models.layout import TokenLayout


def check_model(anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout) -> list[str]:
    """What is wrong, a sentence each: positions, grids, and whether the attention found is the one that is used.

    The inputs are a batch that the model's forward takes; the model is left as it was.
    """
    return [*_check_grids(layout), *_check_forward(anatomy, inputs, layout)]


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


def _check_forward(anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout) -> list[str]:
    lengths: list[int] = []

    def measure(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden: Any = kwargs.get("hidden_states", args[0] if args else None)
        lengths.append(int(hidden.shape[1]))

    plain = _logits(anatomy, inputs, anatomy.layers[0], measure)
    if not lengths:
        return ["The decoder layers that were found are not run by the model's forward."]
    if lengths[0] != layout.length:
        return [
            f"The decoder runs {lengths[0]} positions and the inputs have {layout.length}: the model puts features in "
            "itself, so the layout must be given by hand."
        ]
    found = []
    media = layout.mask(Modality.IMAGE, Modality.VIDEO, Modality.AUDIO).any()
    if anatomy.vision_tower is not None and not media:
        found.append("No position is image, video or audio.")
    for index in anatomy.attention_layers[:: max(1, len(anatomy.attention_layers) - 1)]:
        if torch.equal(plain, _without_attention(anatomy, inputs, index)):
            found.append(
                f"Silencing the attention of layer {index} leaves the logits as they are: it is not the one used."
            )
    return found


def _without_attention(anatomy: Anatomy, inputs: Mapping[str, Any], index: int) -> torch.Tensor:
    def silence(_module: Any, _args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        zero = torch.zeros_like(first)
        return (zero, *output[1:]) if isinstance(output, tuple) else zero

    attention: Any = anatomy.attentions[index]
    handle = attention.register_forward_hook(silence)
    try:
        return _logits(anatomy, inputs)
    finally:
        handle.remove()


def _logits(anatomy: Anatomy, inputs: Mapping[str, Any], watched: Any = None, hook: Any = None) -> torch.Tensor:
    handle = watched.register_forward_pre_hook(hook, with_kwargs=True) if hook is not None else None
    try:
        with torch.no_grad():
            output = anatomy.model(**inputs)
    finally:
        if handle is not None:
            handle.remove()
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits
