"""Tie a model's words to the image: scores of how grounded each word is, and losses that train it."""

from sightline.probes.grounding.gate import GroundedGate
from sightline.probes.grounding.head import GroundingHead
from sightline.probes.grounding.probe import GroundingProbe
from sightline.probes.grounding.scores import Grounding, Scores, TokenScore
from sightline.training.losses import IGNORED, GroundingLoss, LossTerms

__all__ = [
    "IGNORED",
    "GroundedGate",
    "Grounding",
    "GroundingHead",
    "GroundingLoss",
    "GroundingProbe",
    "LossTerms",
    "Scores",
    "TokenScore",
]
