"""By which form of the score words are scored, and after which layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sightline.errors import InputError
from sightline.methods.base import setting
from sightline.models.anatomy import Anatomy

Kind = Literal["similarity", "attention", "learned"]
Projection = Literal["none", "linear"]


@dataclass(frozen=True)
class ScoreForm:
    """The fields of `Grounding`, whose equations they choose from."""

    layers: str = setting("last4", "layers to read: last4 (or any number), all, or 28+29+30+31")
    kind: Kind = setting("similarity", "how a word is scored: similarity, attention or learned")
    top: int = setting(1, "similarity: mean over so many closest patches, 1 and up")
    projection: Projection = setting("none", "before the cosine: none, or a learned linear map of the words")
    renormalise: bool = setting(False, "attention: divide by the attention that the image gets")
    detach_image: bool = setting(False, "training: keep the gradient from the image features")

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind is {self.kind} in grounding: give similarity, attention or learned.")
        if self.projection not in get_args(Projection):
            raise InputError(f"projection is {self.projection} in grounding: give none or linear.")
        if self.projection == "linear" and self.kind == "learned":
            raise InputError("kind=learned has no cosine to project for in grounding: leave projection out.")
        if self.top < 1:
            raise InputError(f"top is {self.top} in grounding: give the number of patches, 1 and up.")
        _layer_names(self.layers)

    @property
    def is_learned(self) -> bool:
        """Whether a `GroundingHead` is part of it."""
        return self.kind == "learned" or self.projection != "none"

    @property
    def reads_attention(self) -> bool:
        """Whether attention weights are part of it."""
        return self.kind != "similarity"

    def chosen_layers(self, anatomy: Anatomy) -> tuple[int, ...]:
        """The layers as indices, ascending.

        Raises:
            InputError: for a layer that the model has not, or that has no attention where that is read.
        """
        count, written = len(anatomy.layers), _layer_names(self.layers)
        layers = tuple(range(count)) if written is None else written
        if isinstance(layers, int):
            if layers > count:
                raise InputError(
                    f"layers is {self.layers} in grounding and the model has {count}: write all, or last{count}."
                )
            layers = tuple(range(count - layers, count))
        if layers[-1] >= count:
            raise InputError(f"Layer {layers[-1]} is out of range in grounding: the model has layers 0 to {count - 1}.")
        blind = [layer for layer in layers if anatomy.attentions[layer] is None] if self.reads_attention else []
        if blind:
            raise InputError(
                f"Layer {blind[0]} has no softmax attention, which grounding of kind {self.kind} reads: leave it out."
            )
        return layers


def _layer_names(written: str) -> tuple[int, ...] | int | None:
    """Indices, or how many from the end, or None for all."""
    if written == "all":
        return None
    count = written.removeprefix("last")
    if written != count and count.isdecimal() and int(count) > 0:
        return int(count)
    parts = written.split("+")
    if all(part.strip().isdecimal() for part in parts):
        return tuple(sorted({int(part) for part in parts}))
    raise InputError(f"layers is '{written}' in grounding: write last4, all, or indices as 28+29+30+31.")
