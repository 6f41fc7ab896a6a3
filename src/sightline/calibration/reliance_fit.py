"""Fits `reliance` on readings of models whose truth is known, and sees how far off it is on one that was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sightline.calibration.reliance import LeftOut, RelianceFit, turns
from sightline.errors import InputError

FEWEST = 3
"""Models that a fit needs, so that one can be left out."""

Readings = Mapping[str, Sequence[tuple[float, float]]]
"""By model, of each answer its KL and whether it followed the picture, 1 or 0."""


def fit_reliance(readings: Readings, others: Readings | None = None) -> RelianceFit:
    """Least squares, each model one point. Raises InputError for fewer than three models.

    others: models with other faults, which are predicted and never fitted on; they count in the error.
    """
    if len(readings) < FEWEST:
        raise InputError(f"A fit that leaves one model out needs {FEWEST} models, and there are {len(readings)}.")
    points = {model: _point(pairs) for model, pairs in readings.items()}
    left_out = []
    for model, (turned, truth) in points.items():
        line = _line([point for name, point in points.items() if name != model])
        left_out.append(LeftOut(model, truth, RelianceFit(*line, 0.0, ()).share(turned), turned))
    line = _line(list(points.values()))
    for model, pairs in (others or {}).items():
        turned, truth = _point(pairs)
        left_out.append(LeftOut(model, truth, RelianceFit(*line, 0.0, ()).share(turned), turned))
    error = math.sqrt(float(np.mean([(each.truth - each.predicted) ** 2 for each in left_out])))
    return RelianceFit(*line, error, tuple(left_out))


def _point(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """s and the truth of one model."""
    return float(turns([effect for effect, _ in pairs]).mean()), float(np.mean([label for _, label in pairs]))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """a and b; where all readings are alike, their mean truth and no slope."""
    turned, truth = np.asarray(points).T
    if np.ptp(turned) == 0:
        return float(truth.mean()), 0.0
    slope, intercept = np.polyfit(turned, truth, 1)
    return float(intercept), float(slope)
