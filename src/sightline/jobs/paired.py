"""Measurements and evaluations against each other: the same samples on both sides, differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.benchmarks.compare import compare_verdicts
from sightline.errors import InputError
from sightline.results.paired import adjusted, paired
from sightline.stats import holm

if TYPE_CHECKING:
    import pandas as pd

    from sightline.jobs.benchmark_score import BenchmarkScore
    from sightline.jobs.measured import Measured


def compare_measured(pairs: Sequence[tuple[Measured, Measured]], metric: str = "mdi", seed: int = 0) -> pd.DataFrame:
    """A row a pair and stage, over the samples that both measured.

    Columns: a and b ("model" or "model, method"), stage, metric, n, mean_a, mean_b, difference (b - a, a sample's stage
    being the mean over its layers), ci_low and ci_high (95% percentile bootstrap over samples), p_value (of the
    difference, by the exact sign-flip test) and p_holm, adjusted for all rows.

    Raises:
        InputError: where two have no sample in common, or no such metric.
    """
    return adjusted([row for pair in pairs for row in _stages(*pair, metric, seed)])


def _stages(first: Measured, second: Measured, metric: str, seed: int) -> list[dict[str, Any]]:
    ours, theirs = _by_stage(first, metric), _by_stage(second, metric)
    found = []
    names = _names(first, second)
    for stage in [name for name in ours if name in theirs]:
        ids = [name for name in ours[stage] if name in theirs[stage]]
        if not ids:
            raise InputError(f"{names[0]} and {names[1]} measured no sample in common: compare on one data.")
        before = np.array([ours[stage][name] for name in ids])
        after = np.array([theirs[stage][name] for name in ids])
        about = {"a": names[0], "b": names[1], "stage": stage, "metric": metric}
        found.append(about | paired(before, after, seed))
    return found


def _by_stage(measured: Measured, metric: str) -> dict[str, dict[str, float]]:
    """A sample's mean over each stage's layers, by stage and id; samples for which it is undefined are left out."""
    rows = [row for row in measured.rows() if row["metric"] == metric and row["image"] is None]
    if not rows:
        known = sorted({row["metric"] for row in measured.rows()})
        raise InputError(f"There is no metric {metric!r}: give one of {', '.join(known)}.")
    values: dict[str, dict[str, list[float | None]]] = {}
    for stage, layers in measured.result.stage_layers.items():
        for row in rows:
            if row["layer"] in layers:
                values.setdefault(stage, {}).setdefault(row["id"], []).append(row["value"])
    return {
        stage: {
            name: float(np.mean([value for value in given if value is not None]))
            for name, given in of.items()
            if all(value is not None and np.isfinite(value) for value in given)
        }
        for stage, of in values.items()
    }


def _names(first: Measured, second: Measured) -> tuple[str, str]:
    """Each by its model, its method where it has one, and its query set where they differ."""
    sets = [each.result.queries for each in (first, second)]
    found = [each.model if each.method == "none" else f"{each.model}, {each.method}" for each in (first, second)]
    return (found[0], found[1]) if sets[0] == sets[1] else (f"{found[0]}, {sets[0]}", f"{found[1]}, {sets[1]}")


def compare_scores(
    pairs: Sequence[tuple[BenchmarkScore, str, BenchmarkScore, str]], seed: int = 0
) -> list[dict[str, Any]]:
    """An entry a pair as in `paired` of an `eval` document, with "bench"; p values are adjusted for all pairs.

    pairs: (score, method's label, other score, its label), of one benchmark each; items that both answered count.

    Raises:
        InputError: where two have no item in common.
    """
    found: list[dict[str, Any]] = []
    for ours, label, theirs, other in pairs:
        known = {item.id for item in theirs.items.items}
        items = [item for item in ours.items.items if item.id in known]
        if not items:
            raise InputError(f"{ours.model} and {theirs.model} were asked no {ours.items.name} item in common.")
        names = (_label(ours, label), _label(theirs, other))
        entry = compare_verdicts(
            ours.items.bench, items, ours.verdicts[label], theirs.verdicts[other], seed=seed
        ).to_dict()
        found.append({"bench": ours.items.name, "a": names[0], "b": names[1]} | entry)
    for entry, p_holm in zip(found, holm([entry["p_value"] for entry in found]), strict=True):
        entry["p_holm"] = p_holm
    return found


def _label(score: BenchmarkScore, method: str) -> str:
    return score.model if method == "none" else f"{score.model}, {method}"
