"""Where a model keeps its decoder layers, norms, towers and special token ids, found by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.models.anatomy.parts import Anatomy, find_anatomy, unwrap
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.models.anatomy.parts": "Anatomy find_anatomy unwrap",
        },
    )

__all__ = ["Anatomy", "find_anatomy", "unwrap"]
