"""What reads a model inside a `with`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.probes.generation_cost import measured_cost
else:
    __getattr__ = names_of(__name__, {"sightline.probes.generation_cost": "measured_cost"})

__all__ = ["measured_cost"]
