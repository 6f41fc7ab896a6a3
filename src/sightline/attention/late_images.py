"""Models that give the picture to single layers, and nothing of it to the decoder's beginning."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from sightline.errors import ModelError

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy

LATE = "deepstack_features"
"""What such a decoder is handed of the picture, by layer; its embeddings are zeros at the image's positions."""


def refuse_late_images(name: str, anatomy: Anatomy) -> None:
    """ModelError where what is called `name` reads or cuts the picture at the beginning of such a decoder."""
    if LATE in inspect.signature(inspect.unwrap(type(anatomy.decoder).forward)).parameters:
        raise ModelError(
            f"{name} needs the picture where the decoder begins, and {type(anatomy.model).__name__} adds it in front "
            "of single layers alone: it can't be used there."
        )
