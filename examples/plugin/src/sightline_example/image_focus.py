"""Image focus: the row that predicts the next word gives the image more of its attention."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sightline.errors import InputError
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting


@register
@dataclass(frozen=True)
class ImageFocus(AttentionEdit):
    """Adds a constant to the scores of image keys: each image token weighs exp(boost) times as much against the text.

    e_j <- e_j + boost        j image; last row, before the softmax
    """

    name: ClassVar[str] = "image_focus"
    rows: ClassVar[Rows] = "last"
    boost: float = setting(1.0, "added to the scores of image keys, 0 (none) or more")

    def __post_init__(self) -> None:
        if self.boost < 0:
            raise InputError(f"boost is {self.boost} in image_focus: give 0 or more.")

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The image's scores, raised."""
        return values + self.boost * keys.image
