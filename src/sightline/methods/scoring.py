"""What the methods share that change scores before the softmax: which layers, which rows, which keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import ForwardPass
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout, layout_of

Target = Literal["image", "text"]
"""Whose scores a method raises: the image's or, as its control, those of the words beside it."""

VISUAL = (Modality.IMAGE, Modality.VIDEO)
"""What "image" means to a method: pictures, and the frames of videos."""


def prompt_layout(anatomy: Anatomy, source: LayoutSource | None, inputs: Mapping[str, Any]) -> TokenLayout:
    """The layout of what `generate` was given, by the source that `.on` was given."""
    if source is None:
        return layout_of(anatomy, inputs)
    return source(inputs) if callable(source) else source


def require_image(name: str, layout: TokenLayout) -> None:
    """InputError where no sample of the batch has an image."""
    if not bool(layout.mask(*VISUAL).any()):
        raise InputError(f"{name} acts on image tokens, and this prompt has none: give an image.")


def entering(name: str, anatomy: Anatomy, inputs: Mapping[str, Any]) -> Float[Tensor, "batch positions hidden"]:
    """The features with which a decoder is entered; ModelError for one that makes them itself, as Chameleon's."""
    found = inputs.get("inputs_embeds")
    if found is None:
        kind = type(anatomy.model).__name__
        raise ModelError(f"{name} works on image features as the decoder is entered, and {kind} makes them inside it.")
    return found  # type: ignore[no-any-return]


def require_no_image_behind_text(name: str, step: ForwardPass) -> None:
    """InputError where a piece of a prompt brings an image behind rows that were taken to be behind the last one."""
    visual = step.layout.mask(*VISUAL)
    before, now = visual[:, : step.offset], visual[:, step.offset :].any(1)
    index = torch.arange(step.offset)
    last = torch.where(before, index, -1).amax(1)
    if bool((now & (last >= 0) & (last < step.offset - 1)).any()):
        raise InputError(
            f"{name} acts behind the last image, and a later piece of the prompt brings one more: leave "
            "prefill_chunk_size out."
        )


def check_target(name: str, target: str) -> None:
    """InputError for what is neither the image nor the text."""
    if target not in get_args(Target):
        raise InputError(f"target is {target} in {name}: give {' or '.join(get_args(Target))}.")


def check_layers(name: str, layers: tuple[int, ...], anatomy: Anatomy) -> frozenset[int]:
    """The layers given; InputError for one that the model has not, or that has no softmax attention."""
    count = len(anatomy.layers)
    for layer in layers:
        if not 0 <= layer < count:
            raise InputError(f"Layer {layer} is out of range in {name}: the model has layers 0 to {count - 1}.")
        if anatomy.attentions[layer] is None:
            raise InputError(f"Layer {layer} in {name} has no softmax attention: leave it out.")
    return frozenset(layers)


def check_range(name: str, first: int, last: int | None, anatomy: Anatomy) -> range:
    """Layers first to last, by default to the model's last; InputError for one that the model has not."""
    end = len(anatomy.layers) - 1 if last is None else last
    for layer in (first, end):
        if not 0 <= layer < len(anatomy.layers):
            raise InputError(
                f"Layer {layer} is out of range in {name}: the model has layers 0 to {len(anatomy.layers) - 1}."
            )
    if first > end:
        raise InputError(f"The layers of {name} end at {end}, before they begin at {first}: give a later last_layer.")
    return range(first, end + 1)


_ROOM = 256
"""Positions kept free for generated keys, so that a step's keys are a view."""


@dataclass(frozen=True)
class Places:
    """Where a prompt's image lies: [batch, positions and some more], bool, in the sequence; and its last position,
    [batch], and that of the sample.

    Samples without an image have none of it: `last` is then before all positions. Generated positions belong to
    nothing but what stands behind the image.
    """

    visual: Bool[Tensor, "batch positions"]
    text: Bool[Tensor, "batch positions"]
    """All else but padding."""
    rest: Bool[Tensor, "batch positions"]
    """Padding, and all of a sample without an image."""
    system: Bool[Tensor, "batch positions"]
    """Text before the image."""
    behind: Bool[Tensor, "batch positions"]
    """Whatever stands behind the image."""
    last: Int[Tensor, " batch"]
    end: Int[Tensor, " batch"]
    """Last position of each sample that is not padding."""

    @classmethod
    def of(cls, layout: TokenLayout, device: torch.device) -> Places:
        """The places of a layout's prompt, on the device of the attention."""
        visual = layout.mask(*VISUAL)
        index = torch.arange(layout.length)
        first = torch.where(visual, index, layout.length).amin(1)
        last = torch.where(visual, index, -1).amax(1)
        present = layout.modality != int(Modality.PADDING)
        text = present & ~visual & visual.any(1, keepdim=True)
        system = text & (index < first[:, None])
        end = torch.where(present, index, -1).amax(1)
        behind = (index > last[:, None]) & (last >= 0)[:, None]
        parts = [torch.nn.functional.pad(part, (0, _ROOM)) for part in (visual, text, ~visual & ~text, system)]
        parts.append(torch.cat([behind, (last >= 0)[:, None].expand(-1, _ROOM)], 1))
        return cls(*(part.to(device) for part in (*parts, last, end)))

    def keys(self, which: Bool[Tensor, "batch positions"], start: int, count: int) -> Bool[Tensor, "batch keys"]:
        """A mask over positions, as so many keys from `start` on."""
        end = start + count
        missing = end - int(which.shape[1])
        if missing <= 0:
            return which[:, start:end]
        # What is generated goes on as it began.
        return torch.cat([which[:, start:], which[:, -1:].expand(-1, missing)], 1)


class PlacesOf:
    """The places of the prompt at hand, made anew when the layout changes."""

    def __init__(self) -> None:
        self._layout: TokenLayout | None = None
        self._places: Places | None = None

    def at(self, step: ForwardPass, device: torch.device) -> Places:
        """The places of this step's prompt."""
        if self._places is None or self._layout is not step.layout:
            self._layout, self._places = step.layout, Places.of(step.layout, device)
        return self._places
