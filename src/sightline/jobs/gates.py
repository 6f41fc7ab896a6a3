"""Gates for those who ship a model: figures that must hold, and no score worse than that of a run before.

chair_s > 0.06                 fails where CHAIRs of any method is larger
pope/splits.adversarial.f1 < 0.8   of one benchmark, a figure within the document
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from sightline.errors import InputError
from sightline.files.json import write_atomically

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, Item, Verdict
    from sightline.jobs.evaluation import Evaluation
    from sightline.jobs.score import Score

SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Gate:
    """One figure that was held against a bound. name: whose. words: the figure, in words."""

    name: str
    condition: str
    passed: bool
    words: str


@dataclass(frozen=True)
class FailIf:
    """A condition of `--fail-if`; bench: "" for every benchmark; figure: a path of names joined by full stops."""

    text: str
    bench: str
    figure: str
    sign: str
    bound: float


def parse_fail_if(text: str) -> FailIf:
    """`[BENCH/]FIGURE SIGN NUMBER`; InputError for anything else."""
    found = re.fullmatch(r"\s*(?:([\w-]+)/)?([\w.-]+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*", text)
    try:
        bound = float(found[4]) if found else math.nan
    except ValueError:
        bound = math.nan
    if found is None or not math.isfinite(bound):
        raise InputError(
            f"The condition {text[:60]!r} cannot be read: a figure, one of {' '.join(SIGNS)} and a number are expected"
            ', such as "accuracy < 0.8" or "pope/splits.random.f1 < 0.8".'
        )
    return FailIf(" ".join(text.split()), found[1] or "", found[2], found[3], bound)


def held(documents: Sequence[Mapping[str, Any]], conditions: Sequence[FailIf]) -> list[Gate]:
    """Every condition on every method of the `eval` documents that it is for. A figure of nothing fails.

    Raises InputError for a figure that no document has, or a benchmark that was not asked.
    """
    gates = [gate for condition in conditions for gate in _held(documents, condition)]
    for condition in conditions:
        if not any(gate.condition == condition.text for gate in gates):
            known = sorted({name for document in documents for name in _figures(document)})
            benches = sorted({str(document["bench"]) for document in documents})
            raise InputError(
                f"The condition {condition.text!r} is for no figure here: the benchmarks are {', '.join(benches)}, the "
                f"figures {', '.join(known)}."
            )
    return gates


def not_worse(documents: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Each difference in `paired`: it fails where the whole 95% interval lies on the worse side."""
    return [
        _not_worse(document, pair, f"{document['bench']}: {pair['b']} against {pair['a']}")
        for document in documents
        for pair in document["paired"]
    ]


def not_worse_than_run(found: Evaluation, before: Path) -> list[Gate]:
    """Each method's answers against those of a run folder, or of the folders of benchmarks in it, to the same items.

    Raises InputError where the folder has no answers of a benchmark and method that were asked now.
    """
    from sightline.benchmarks.answer_files import run_folders

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
    from sightline.benchmarks.answers import score_answers
    from sightline.benchmarks.compare import compare

    old = score_answers(bench, before, data, seed=seed, **about)
    pair = compare(bench, new[0], old.judgements, new[1], seed=seed).to_dict()
    if not pair["n"]:
        raise InputError(f"{before} has no item of {bench.name} in common with these answers.")
    return _not_worse(document, pair, name)


def write_junit(path: Path, gates: Sequence[Gate]) -> None:
    """The gates as JUnit XML, a test case each."""
    failed = sum(not gate.passed for gate in gates)
    suite = ElementTree.Element("testsuite", name="sightline", tests=str(len(gates)), failures=str(failed))
    for gate in gates:
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(gate.name), name=_clean(gate.condition))
        if not gate.passed:
            ElementTree.SubElement(case, "failure", message=_clean(gate.words))
    text = ElementTree.tostring(suite, encoding="unicode")
    write_atomically(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}')


def markdown(gates: Sequence[Gate]) -> str:
    """A table of the gates for a job's summary."""
    lines = ["| gate | condition | result | |", "|---|---|---|---|"]
    for gate in gates:
        result = "passed" if gate.passed else "**failed**"
        lines.append(f"| {_cell(gate.name)} | {_cell(gate.condition)} | {_cell(gate.words)} | {result} |")
    return "\n".join(lines)


def _held(documents: Sequence[Mapping[str, Any]], condition: FailIf) -> Iterator[Gate]:
    for document in documents:
        if condition.bench not in ("", document["bench"]):
            continue
        for label, figures in document["methods"].items():
            is_there, value = _find(figures, condition.figure)
            if not is_there:
                continue
            name = f"{document['model']} on {document['bench']}, {label}"
            if value is None:
                yield Gate(name, condition.text, False, f"{condition.figure} is of nothing")
            else:
                is_bad = SIGNS[condition.sign](value, condition.bound)
                yield Gate(name, condition.text, not is_bad, f"{condition.figure} is {value:.6g}")


def _find(figures: Mapping[str, Any], path: str) -> tuple[bool, float | None]:
    """Whether there is such a figure, and its value; names within may hold full stops."""
    if path in figures:
        value = figures[path]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value is None or is_number, float(value) if is_number else None
    for name, below in figures.items():
        if isinstance(below, Mapping) and path.startswith(f"{name}."):
            return _find(below, path[len(name) + 1 :])
    return False, None


def _figures(document: Mapping[str, Any]) -> list[str]:
    first: Mapping[str, Any] = next(iter(document["methods"].values()), {})
    return [name for name, value in first.items() if isinstance(value, int | float) and not isinstance(value, bool)]


def _not_worse(document: Mapping[str, Any], pair: Mapping[str, Any], name: str) -> Gate:
    condition = f"{document['headline']} not worse"
    delta, interval = pair["delta"], pair["ci95"]
    if delta is None:
        return Gate(name, condition, False, "there is nothing to compare")
    low, high = interval or (delta, delta)
    is_worse = high < 0 if document["better"] == "larger" else low > 0
    bounds = f"95% {low:+.4g} to {high:+.4g}" if interval else "too few for an interval"
    return Gate(name, condition, not is_worse, f"{delta:+.4g} ({bounds}, n {pair['n']})")


def _clean(text: str) -> str:
    """Without signs that XML cannot hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _cell(text: str) -> str:
    return _clean(text).replace("|", "\\|")
