"""Gates for those who ship a model: no score worse than that of a run before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.answer_files import run_folders
from sightline.benchmarks.answers import score_answers
from sightline.benchmarks.compare import compare_verdicts
from sightline.errors import InputError
from sightline.jobs.gates import Gate

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Verdict
    from sightline.jobs.evaluation import Evaluation
    from sightline.jobs.score import Score


def not_worse(documents: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Each difference in `paired`: it fails where the whole 95% interval lies on the worse side."""
    return [
        _not_worse(document, pair, f"{document['bench']}: {pair['b']} against {pair['a']}")
        for document in documents
        for pair in document["paired"]
    ]


def not_worse_than_run(found: Evaluation, before: Path) -> list[Gate]:
    """Each method's answers against those of a run folder, or of the folders of benchmarks in it, to the same items.

    Raises InputError where the folder has no answers of a benchmark and method that are here.
    """
    gates = []
    for score in found.scores:
        bench = score.items.bench
        below = [folder for folder in run_folders(before) if folder.name.startswith(bench.name)]
        folder = below[0] if below else before
        for label, document in score.document["methods"].items():
            models = {each.document["model"] for each in found.scores}
            choice = {"method": document["method"], "model": score.model if len(models) > 1 else None}
            new, seed = (score.items.items, score.verdicts[label]), score.document["seed"]
            name = f"{score.model} on {bench.name}, {label}: against {before}"
            about = {"parser": score.document["parser"], **choice}
            gates.append(_against(score.document, name, bench, folder, score.items.path, new, seed, about))
    return gates


def not_worse_than_answers(found: Score, before: Path) -> list[Gate]:
    """Scored answers against others to the same items. InputError where they have none in common."""
    bench, settings = found.bench, found.settings
    new = found.scored.items, found.scored.judgements
    about = {"parser": settings.parser, "field": settings.field}
    name = f"{found.answers} on {bench.name}: against {before}"
    return [_against(found.as_evaluation(), name, bench, before, found.data, new, settings.seed, about)]


def _against(
    document: Mapping[str, Any],
    name: str,
    bench: Benchmark,
    before: Path,
    data: Path | None,
    new: tuple[Sequence[Item], Mapping[str, Verdict]],
    seed: int,
    about: Mapping[str, Any],
) -> Gate:
    old = score_answers(bench, before, data, seed=seed, **about)
    pair = compare_verdicts(bench, new[0], old.judgements, new[1], seed=seed).to_dict()
    if not pair["n"]:
        raise InputError(f"{before} has no item of {bench.name} in common with these answers.")
    return _not_worse(document, pair, name)


def _not_worse(document: Mapping[str, Any], pair: Mapping[str, Any], name: str) -> Gate:
    condition = f"{document['headline']} not worse"
    delta, interval = pair["delta"], pair["ci95"]
    if delta is None:
        return Gate(name, condition, False, "there is nothing to compare")
    low, high = interval or (delta, delta)
    is_worse = high < 0 if document["better"] == "larger" else low > 0
    bounds = f"95% {low:+.4g} to {high:+.4g}" if interval else "too few for an interval"
    return Gate(name, condition, not is_worse, f"{delta:+.4g} ({bounds}, n {pair['n']})")
