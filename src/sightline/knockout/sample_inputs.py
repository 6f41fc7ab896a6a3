"""One prompt, and the other of a pair, as the model's forward takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.models.layout import TokenLayout, layout_of

if TYPE_CHECKING:
    from sightline.attention.passes import LayoutSource
    from sightline.models.anatomy import Anatomy


def encoded(model: Any, sample: Sample | Mapping[str, Any]) -> Mapping[str, Any]:
    """What the model's forward takes; a bare model cannot encode a sample itself."""
    if not isinstance(sample, Sample):
        if not hasattr(sample, "get"):
            raise InputError(f"The prompt is a {type(sample).__name__}: give a Sample, or what its forward takes.")
        return sample
    if not hasattr(model, "encode"):
        raise InputError(
            f"{type(model).__name__} cannot encode a Sample: give encoded inputs, or load it by sightline.load."
        )
    found: Mapping[str, Any] = model.encode(sample, allow_text_only=True)
    return found


def other_of(sample: Any, picture: str | None, prompt: str | None) -> Sample:
    """The other of a pair: with this picture in the place of the first one, this prompt, or both."""
    if not isinstance(sample, Sample):
        raise InputError("The mode patch encodes the pair itself: give a model loaded by sightline.load and a Sample.")
    images = sample.images if picture is None else (picture, *sample.images[1:])
    return replace(sample, images=images, prompt=prompt or sample.prompt)


def layout_in(anatomy: Anatomy, inputs: Mapping[str, Any], source: LayoutSource | None) -> TokenLayout:
    """The layout of encoded inputs, from the source given or from the inputs themselves."""
    if isinstance(source, TokenLayout):
        return source
    return layout_of(anatomy, inputs) if source is None else source(inputs)
