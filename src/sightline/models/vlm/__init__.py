"""A model with its processor: load it, put samples in its own words, let it answer."""

from sightline.models.vlm.model import VLM, load

__all__ = ["VLM", "load"]
