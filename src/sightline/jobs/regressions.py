"""Gates for those who ship a model: no score worse than that of a run before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.answer_files import run_folders
from sightline.benchmarks.answers import Scored, score_answers
from sightline.benchmarks.compare import compare_verdicts
from sightline.errors import InputError
from sightline.jobs.gates import Gate
from sightline.runs.description import RUN_FILE, described

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Verdict
    from sightline.jobs.evaluation import Evaluation
    from sightline.jobs.evaluation_plan import EvaluationPlan
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
        folder = _folder_of(bench, before)
        for label, document in score.document["methods"].items():
            models = {each.document["model"] for each in found.scores}
            choice = {"method": document["method"], "model": score.model if len(models) > 1 else None}
            new, seed = (score.items.items, score.verdicts[label]), score.document["seed"]
            name = f"{score.model} on {bench.name}, {label}: against {before}"
            about = {"parser": score.document["parser"], **choice}
            gates.append(_against(score.document, name, bench, folder, score.items.path, new, seed, about))
    return gates


def require_run(plan: EvaluationPlan, before: Path) -> None:
    """InputError, before a model is loaded, where `not_worse_than_run` would find no answers for one of the methods."""
    for items in plan.benches:
        for model in plan.models:
            for spec in plan.specs:
                choice = {"method": spec.name, "model": model.name if len(plan.models) > 1 else None}
                about = {"parser": plan.parser, **choice}
                wanted = items.bench, _folder_of(items.bench, before), items.path
                _answers_before(*wanted, set(items.ids), plan.settings.seed, about)


def _folder_of(bench: Benchmark, before: Path) -> Path:
    below = [folder for folder in run_folders(before) if folder.name.startswith(bench.name)]
    return below[0] if below else before


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
    old = _answers_before(bench, before, data, set(new[1]), seed, about)
    pair = compare_verdicts(bench, new[0], old.judgements, new[1], seed=seed).to_dict()
    return _not_worse(document, pair, name)


def _answers_before(
    bench: Benchmark, before: Path, data: Path | None, ids: Set[str], seed: int, about: Mapping[str, Any]
) -> Scored:
    if (before / RUN_FILE).is_file() and (command := described(before)["command"]) != "eval":
        raise InputError(f"{before} holds a run of `{command}`, which has no answers: give one of `eval`.")
    old = score_answers(bench, before, data, seed=seed, **about)
    if not ids & set(old.judgements):
        raise InputError(f"{before} has no item of {bench.name} in common with these answers.")
    return old


def _not_worse(document: Mapping[str, Any], pair: Mapping[str, Any], name: str) -> Gate:
    condition = f"{document['headline']} not worse"
    delta, interval = pair["delta"], pair["ci95"]
    if delta is None:
        return Gate(name, condition, False, "there is nothing to compare")
    low, high = interval or (delta, delta)
    is_worse = high < 0 if document["better"] == "larger" else low > 0
    bounds = f"95% {low:+.4g} to {high:+.4g}" if interval else "too few for an interval"
    return Gate(name, condition, not is_worse, f"{delta:+.4g} ({bounds}, n {pair['n']})")
