"""How well readings agree with the truth: AUROC, rank correlation, equality, with intervals over scenes.

case     AUROC over the units of each case, mean over cases; the interval redraws cases
pooled   AUROC over the cases of a model together; the interval redraws scenes
heads    readings are averaged over cases first, then one AUROC over heads; the interval redraws cases
exact    the share of cases that are exactly right
rank     Spearman's correlation of mean readings with the truth over models; the interval redraws scenes, the same ones
         for all models
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sightline.stats import Interval, auroc, auroc_interval, interval_of, mean_interval

RESAMPLES = 2000
HEAD_RESAMPLES = 500
FOLDS = 5
RIDGE = 1.0
"""Of standardised features, per feature."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rating:
    """One number. ci95: None where nothing varies; n: cases; chance: of a reading that knows nothing."""

    metric: str
    value: float
    ci95: Interval | None
    n: int
    chance: float


@dataclass(frozen=True)
class Marked:
    """One case: its labels, and what an instrument read, both by unit; scene: its number among the cases."""

    scene: int
    labels: Sequence[float | None]
    values: Sequence[Any]


def score_cases(cases: Sequence[Marked]) -> Rating | None:
    """Within each case; None where no case has units of both labels."""
    found = [auroc(values, labels) for labels, values in map(_known, cases) if len(set(labels)) == 2]
    if not found:
        return None
    values = np.asarray(found)
    interval = mean_interval(values, RESAMPLES) if len(set(found)) > 1 else None
    return Rating("AUROC", float(values.mean()), interval, len(found), 0.5)


def score_pooled(cases: Sequence[Marked]) -> Rating | None:
    """Over the units of all cases together; None where one of the labels is missing."""
    parts = [(case.scene, *_known(case)) for case in cases]
    labels = np.concatenate([np.asarray(part[1]) for part in parts]) if parts else np.empty(0)
    if len(set(labels.tolist())) < 2:
        return None
    values = np.concatenate([np.asarray(part[2], dtype=float) for part in parts])
    scenes = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
    _, groups = np.unique(scenes, return_inverse=True)
    interval = auroc_interval(values, labels, groups, RESAMPLES)
    return Rating("AUROC", auroc(values, labels), interval, len(labels), 0.5)


def score_heads(cases: Sequence[Marked]) -> Rating | None:
    """Over heads, of readings averaged over cases."""
    if not cases:
        return None
    labels = np.asarray(cases[0].labels, dtype=float)
    values = np.asarray([case.values for case in cases], dtype=float)
    if len(set(labels.tolist())) < 2:
        return None
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=HEAD_RESAMPLES) / len(values)
    redrawn = np.asarray([auroc(row, labels) for row in drawn @ values])
    return Rating("AUROC", auroc(values.mean(0), labels), interval_of(redrawn), len(cases), 0.5)


def score_exact(cases: Sequence[Marked], wanted: Sequence[int]) -> Rating | None:
    """The share of cases whose values are those wanted, in any order."""
    if not cases:
        return None
    hits = np.asarray([float(sorted(case.values) == sorted(wanted)) for case in cases])
    interval = mean_interval(hits, RESAMPLES) if len(set(hits.tolist())) > 1 else None
    return Rating("share exact", float(hits.mean()), interval, len(hits), 0.0)


def score_rank(readings: Mapping[str, Mapping[int, float]], truth: Mapping[str, float]) -> Rating | None:
    """Over models; readings: by model and scene. Scenes that some model lacks are left out; None without three models.

    With every reading alike nothing is ordered: the correlation is 0.
    """
    models = [model for model in truth if readings.get(model)]
    if len(models) < 3:
        return None
    scenes = sorted(set.intersection(*(set(readings[model]) for model in models)))
    if not scenes:
        return None
    table = np.asarray([[readings[model][scene] for scene in scenes] for model in models], dtype=float)
    wanted = np.asarray([truth[model] for model in models])
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=RESAMPLES) / len(scenes)
    redrawn = np.asarray([_spearman(row, wanted) for row in drawn @ table.T])
    return Rating("Spearman", _spearman(table.mean(1), wanted), interval_of(redrawn), len(scenes), 0.0)


def probe_scores(cases: Sequence[Marked]) -> list[Marked]:
    """The cases with a number for each state, from a ridge regression on the labels of other scenes, five folds.

    Rating s = w (x - mean) / std, with w minimising sum (y - s)^2 + RIDGE p |w|^2 over the other folds; p: features.
    """
    kept = [case for case in cases if case.labels and case.labels[0] is not None]
    if not kept:
        return []
    states = np.asarray([case.values for case in kept], dtype=float)
    labels = np.asarray([case.labels[0] for case in kept], dtype=float)
    folds = np.asarray([case.scene % FOLDS for case in kept])
    found = np.zeros(len(kept))
    for fold in range(FOLDS):
        mine, others = folds == fold, folds != fold
        if not mine.any() or not others.any():
            continue
        found[mine] = ridge(states[others], labels[others], states[mine])
    return [Marked(case.scene, case.labels, [value]) for case, value in zip(kept, found.tolist(), strict=True)]


def ridge(seen: Array, labels: Array, new: Array, strength: float = RIDGE) -> Array:
    """Predictions for new rows, in the dual form, since there are fewer rows than features."""
    mean, deviation = seen.mean(0), seen.std(0) + 1e-6
    known, fresh = (seen - mean) / deviation, (new - mean) / deviation
    kernel = known @ known.T + strength * known.shape[1] * np.eye(len(known))
    weights = np.linalg.solve(kernel, labels - labels.mean())
    predicted: Array = labels.mean() + fresh @ known.T @ weights
    return predicted


def _known(case: Marked) -> tuple[list[float], list[float]]:
    """Labels and values where both are there."""
    pairs = [
        (label, value)
        for label, value in zip(case.labels, case.values, strict=False)
        if label is not None and value is not None
    ]
    return [label for label, _ in pairs], [value for _, value in pairs]


def _spearman(values: Array, wanted: Array) -> float:
    if np.ptp(values) == 0:
        return 0.0
    return float(spearmanr(values, wanted).statistic)
