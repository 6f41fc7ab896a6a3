"""Where a model keeps its decoder layers, norms, towers and special token ids, found by structure."""

from sightline.models.anatomy.parts import Anatomy, find_anatomy, unwrap

__all__ = ["Anatomy", "find_anatomy", "unwrap"]
