"""A model with its processor: load it, put samples in its own words, let it answer."""

from sightline.models.vlm.answers import Answer
from sightline.models.vlm.model import VLM
from sightline.models.vlm.opening import load, wrap

__all__ = ["VLM", "Answer", "load", "wrap"]
