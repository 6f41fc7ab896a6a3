"""How often a model's answers follow the picture, predicted from what becomes of them when pictures are exchanged.

    s = mean over answers of 1 - exp(-KL(p_i || q_i))
    share = a + b s, cut at 0 and 1

p_i: the first token of the answer, given its own picture; q_i: given another sample's. 1 - exp(-KL) is 0 for an answer
that stays and near 1 for one that turns. s alone is a lower bound: of answers that follow the picture not all turn,
since the same may be true of the other one. a and b are fitted on models whose truth is known by intervention
(`sightline calibrate`), on questions of yes or no half of which are yes; about half of the answers should turn there.

What that is worth is seen on models that were left out of the fit, one of the dial at a time, and on models with other
faults, which are predicted and never fitted on: e is the root mean square of all their errors. The interval is
share +- 1.96 sqrt((b t)^2 + e^2), t the standard error of s over answers, cut at 0 and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError

READING = "picture exchanged"
"""The instrument whose readings it is fitted on: two passes."""

FITTED = Path(__file__).with_name("reliance.json")
WIDEST = 0.5
"""Standard deviation of a share where one answer alone was read."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """One model, predicted by a fit on all others. truth, predicted: shares of its answers. turned: s above."""

    model: str
    truth: float
    predicted: float
    turned: float


@dataclass(frozen=True)
class Reliance:
    """What is predicted of a model.

    share, ci95: of answers that follow the picture. turned: s above, which is a lower bound whatever the questions are.
    n: answers that were read. error: e above.
    """

    share: float
    ci95: tuple[float, float]
    turned: float
    n: int
    error: float

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the `measure` document."""
        return asdict(self) | {"ci95": list(self.ci95), "reading": READING}


@dataclass(frozen=True)
class RelianceFit:
    """intercept, slope: a and b above. error: e above. left_out: each model predicted by the others."""

    intercept: float
    slope: float
    error: float
    left_out: tuple[LeftOut, ...]

    def share(self, turned: float) -> float:
        """Of answers that follow the picture."""
        return min(1.0, max(0.0, self.intercept + self.slope * turned))

    def estimate(self, effects: Sequence[float]) -> Reliance:
        """effects: the KL of each answer. InputError without any."""
        if not len(effects):
            raise InputError(
                "Reliance is read on answers about pictures that can be exchanged: give several samples with one each."
            )
        each = turns(effects)
        turned, spread = float(each.mean()), float(each.std(ddof=1)) if len(each) > 1 else WIDEST
        share, half = self.share(turned), 1.96 * math.hypot(self.slope * spread / math.sqrt(len(each)), self.error)
        return Reliance(share, (max(0.0, share - half), min(1.0, share + half)), turned, len(each), self.error)

    def to_dict(self) -> dict[str, Any]:
        """As reliance.json holds it."""
        return asdict(self) | {"reading": READING, "left_out": [asdict(each) for each in self.left_out]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RelianceFit:
        """The inverse of `to_dict`."""
        left_out = tuple(LeftOut(**each) for each in document["left_out"])
        return cls(float(document["intercept"]), float(document["slope"]), float(document["error"]), left_out)


@cache
def bundled_fit() -> RelianceFit:
    """The fit that ships, on the bundled models."""
    return RelianceFit.from_dict(json.loads(FITTED.read_text(encoding="utf-8")))


def turns(effects: Sequence[float] | Array) -> Array:
    """1 - exp(-KL) of each answer."""
    found: Array = 1 - np.exp(-np.asarray(effects, dtype=float).clip(0))
    return found
