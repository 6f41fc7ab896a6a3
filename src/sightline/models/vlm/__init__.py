"""A model with its processor: load it, put samples in its own words, let it answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.models.vlm.answers import Answer
    from sightline.models.vlm.model import VLM
    from sightline.models.vlm.opening import load, wrap
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.models.vlm.answers": "Answer",
            "sightline.models.vlm.model": "VLM",
            "sightline.models.vlm.opening": "load wrap",
        },
    )

__all__ = ["VLM", "Answer", "load", "wrap"]
