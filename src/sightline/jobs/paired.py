"""Measurements and evaluations against each other: the same samples on both sides, differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.benchmarks.compare import compare_verdicts
from sightline.errors import InputError
from sightline.results.result import frame_of
from sightline.stats import holm, mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from sightline.jobs.benchmark_score import BenchmarkScore
    from sightline.jobs.measured import Measured
    from sightline.knockout.result import ImpactMap

RESAMPLES = 2000


def compare_measured(pairs: Sequence[tuple[Measured, Measured]], metric: str = "mdi", seed: int = 0) -> pd.DataFrame:
    """A row a pair and stage, over the samples that both measured.

    Columns: a and b ("model" or "model, method"), stage, metric, n, mean_a, mean_b, difference (b - a, a sample's stage
    being the mean over its layers), ci_low and ci_high (95% percentile bootstrap over samples), p_value (Wilcoxon's
    signed-rank test) and p_holm, adjusted for all rows.

    Raises:
        InputError: where two have no sample in common, or no such metric.
    """
    return _adjusted([row for pair in pairs for row in _stages(*pair, metric, seed)])


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
        found.append(about | _paired(before, after, seed))
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


def _signed_rank(change: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return 1.0 if not change.any() else float(wilcoxon(change).pvalue)


def _names(first: Measured, second: Measured) -> tuple[str, str]:
    """Each by its model, its method where it has one, and its query set where they differ."""
    sets = [each.result.queries for each in (first, second)]
    found = [each.model if each.method == "none" else f"{each.model}, {each.method}" for each in (first, second)]
    return (found[0], found[1]) if sets[0] == sets[1] else (f"{found[0]}, {sets[0]}", f"{found[1]}, {sets[1]}")


def modality_sums(found: ImpactMap, metric: str, modality: str) -> np.ndarray:
    """[layers]: a measure summed over the sources of one modality; 0 where it has none."""
    places = [place for place, source in enumerate(found.tokens) if source.modality == modality]
    return np.asarray(np.nansum(found.values(metric)[:, places], 1))


def compare_impacts(
    a: Mapping[str, Sequence[ImpactMap]], b: Mapping[str, Sequence[ImpactMap]], metric: str | None, seed: int = 0
) -> pd.DataFrame:
    """A row a layer and modality, over the prompts that both have; a measure is summed over a modality's sources.

    Columns: a and b (the models), layer, modality, metric, n, mean_a, mean_b, difference (b - a), ci_low and ci_high
    (95% percentile bootstrap over prompts), p_value (Wilcoxon's signed-rank test) and p_holm, adjusted for all rows.

    Raises:
        InputError: where they have no prompt in common, or read other layers.
    """
    names = [name for name in a if name in b]
    if not names:
        raise InputError("The two have no prompt in common: read the same prompts.")
    first, second = a[names[0]][0], b[names[0]][0]
    if first.layers != second.layers:
        raise InputError(f"{first.model} and {second.model} were read in other layers: give the same layers=.")
    measure = metric or first.measure
    rows: list[dict[str, Any]] = []
    for modality in dict.fromkeys(source.modality for source in first.tokens):
        before, after = (np.stack([modality_sums(of[name][0], measure, modality) for name in names]) for of in (a, b))
        for place, layer in enumerate(first.layers):
            about = {"a": first.model, "b": second.model, "layer": layer, "modality": modality, "metric": measure}
            rows.append(about | _paired(before[:, place], after[:, place], seed))
    return _adjusted(rows)


def _adjusted(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows with Holm's adjustment over all of them."""
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return frame_of(rows)


def _paired(before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, Any]:
    """n, both means, the difference with its interval, and a p value."""
    change = after - before
    low, high = mean_interval(change, RESAMPLES, seed) if len(set(change.tolist())) > 1 else (None, None)
    means = {"n": len(change), "mean_a": float(before.mean()), "mean_b": float(after.mean())}
    interval = {"difference": float(change.mean()), "ci_low": low, "ci_high": high}
    return means | interval | {"p_value": _signed_rank(change)}


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
    for entry, adjusted in zip(found, holm([entry["p_value"] for entry in found]), strict=True):
        entry["p_holm"] = adjusted
    return found


def _label(score: BenchmarkScore, method: str) -> str:
    return score.model if method == "none" else f"{score.model}, {method}"
