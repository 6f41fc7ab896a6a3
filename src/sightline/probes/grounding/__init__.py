"""Scores of how grounded each word of an answer is in the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.probes.grounding.gate import GroundedGate
    from sightline.probes.grounding.head import GroundingHead
    from sightline.probes.grounding.probe import GroundingProbe
    from sightline.probes.grounding.scores import Grounding
    from sightline.probes.grounding.values import Scores, TokenScore
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.probes.grounding.gate": "GroundedGate",
            "sightline.probes.grounding.head": "GroundingHead",
            "sightline.probes.grounding.probe": "GroundingProbe",
            "sightline.probes.grounding.scores": "Grounding",
            "sightline.probes.grounding.values": "Scores TokenScore",
        },
    )

__all__ = [
    "GroundedGate",
    "Grounding",
    "GroundingHead",
    "GroundingProbe",
    "Scores",
    "TokenScore",
]
