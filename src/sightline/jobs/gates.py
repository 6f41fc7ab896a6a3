"""Gates for those who ship a model: figures that must hold.

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
    from sightline.jobs.benchmark_items import BenchmarkItems

SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


OF_A_RUN = (
    "at_limit",
    "failed",
    "seconds_per_item",
    "prefill_seconds_per_item",
    "cache_bytes_per_item",
    "times_the_first",
)
"""Figures that a method's document has beside those of its score."""


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

    Raises InputError for a figure that no document has, or a benchmark that is not among them.
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


def require_figures(benches: Sequence[BenchmarkItems], conditions: Sequence[FailIf]) -> None:
    """InputError, before a model is loaded, for a condition on a figure that the score of none of these will have."""
    documents = []
    for items in benches if conditions else ():
        for answers in ({item.id: "" for item in items.items}, {item.id: _right(item.truth) for item in items.items}):
            verdicts = {item.id: items.bench.verdict(item, answers[item.id]) for item in items.items}
            names = {**items.bench.score(items.items, verdicts), **dict.fromkeys(OF_A_RUN)}
            documents.append(
                {"model": "", "bench": items.name, "methods": {"": {**dict.fromkeys([items.bench.headline]), **names}}}
            )
    held(documents, conditions)


def _right(truth: Any) -> str:
    return truth.capitalize() if isinstance(truth, str) else ""


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


def _clean(text: str) -> str:
    """Without signs that XML cannot hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _cell(text: str) -> str:
    return _clean(text).replace("|", "\\|")
